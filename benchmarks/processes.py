"""What a process tree uses and where it listens, read from Linux' /proc; None where there is no /proc."""

import os
import resource
from pathlib import Path

_LISTEN = "0A"
_PROC = Path("/proc")


def process_tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants, as far as they still live."""
    found = [pid]
    for parent in found:  # grows while it is walked
        for children in _PROC.glob(f"{parent}/task/*/children"):
            found += map(int, _read(children).split())
    return found


def cpu_seconds(pid: int | None) -> float | None:
    """Return the CPU time that the whole tree of `pid` has used so far, exact to the scheduler's ns."""
    if pid is None:
        return None
    spent = [
        int(fields[0])
        for process in process_tree(pid)
        for task in _PROC.glob(f"{process}/task/*/schedstat")
        if (fields := _read(task).split())
    ]
    return sum(spent) / 1e9 if spent else None


def memory_kib(pid: int | None) -> float | None:
    """Return the proportional set size (PSS) of the whole tree of `pid`, in KiB: shared pages count once."""
    if pid is None:
        return None
    sizes = [
        int(line.split()[1])
        for process in process_tree(pid)
        for line in _read(_PROC / str(process) / "smaps_rollup").splitlines()
        if line.startswith("Pss:")
    ]
    return sum(sizes) if sizes else None


def open_files(pid: int, but_to_port: int) -> int:
    """Return how many files the whole tree of `pid` has open, without connections to this TCP port."""
    there = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for line in _read(_PROC / "net" / table).splitlines()[1:]
        if int((fields := line.split())[2].rpartition(":")[2], 16) == but_to_port
    }
    links = (link for process in process_tree(pid) for link in (_PROC / str(process) / "fd").glob("*"))
    return sum(bool(name) and name not in there for name in map(_readlink, links))


def resident_kib(pid: int) -> float:
    """Return the resident memory (RSS) of the whole tree of `pid`, in KiB.

    Shared pages count in each process: unlike PSS it does not change with what other programs share.
    """
    lines = (line for process in process_tree(pid) for line in _read(_PROC / str(process) / "status").splitlines())
    return sum(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def find_listener(port: int) -> int | None:
    """Return the process that listens on TCP `port` (the parent, where several share the socket), if it may be seen."""
    sockets = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for line in _read(_PROC / "net" / table).splitlines()[1:]
        if (fields := line.split())[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    holders = {int(link.parts[2]) for link in _PROC.glob("[0-9]*/fd/*") if sockets and _readlink(link) in sockets}
    return next((pid for pid in sorted(holders) if _parent(pid) not in holders), None)


def machine_seconds() -> float | None:
    """Return the CPU time that the whole machine has used so far, all processes and interrupts."""
    fields = _read(_PROC / "stat").partition("\n")[0].split()
    if not fields:
        return None
    return sum(map(int, fields[1:4] + fields[6:9])) / os.sysconf("SC_CLK_TCK")


def core_of(cpu: int) -> str:
    """Return what names the physical core of logical processor `cpu`."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _read(topology).strip() or str(cpu)


def raise_file_limit() -> int:
    """Let this process open as many files as it may; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a lower limit of its own
        return soft
    return wanted


def _parent(pid: int) -> int:
    fields = _read(_PROC / str(pid) / "stat").rpartition(") ")[2].split()
    return int(fields[1]) if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended, is another user's, or this is no Linux
        return ""


def _readlink(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
