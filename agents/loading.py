"""A customer's own agents: one Python file each, in a folder that the server is told.

The files are the modules of a package that exists only in this process. So nothing of theirs can stand in for a module
of ours or of Python's, and nothing is added to sys.path; what they share is in files that begin with `_`, and imported
with `from . import _prices`.
"""

import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "agents_of_user"
"""The package of the files: `order-desk.py` is `agents_of_user.order_desk`, in tracebacks and for loggers."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class BadAgent(ValueError):
    """Say in one line which file can't be served, where in it, and why."""


def load_agents(folder: Path, reserved: frozenset[str]) -> dict[str, Callable[[Any], Any]]:
    """Return each file's `answer` by the name under which it is to be served; raise BadAgent.

    Files that begin with `_` or `.` are passed over, and what is no Python. `reserved` are names that are served
    already. A second call takes the place of the first: there is one folder.
    """
    folder = folder.resolve()
    _open_package(folder)
    return {path.stem: _answer(path, folder, reserved) for path in _files(folder) if path.name[0] not in "_."}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if path.is_file())


def _is_of(path: Path | str, folder: Path) -> bool:
    """Tell whether a file is one of the user's own: in the folder, but in no hidden one, such as `.venv`."""
    path = Path(path)
    return path.is_relative_to(folder) and not any(part[0] == "." for part in path.relative_to(folder).parts)


def _open_package(folder: Path) -> None:
    """Make the folder a package, and forget what was loaded of an earlier one."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise BadAgent(f"{folder}: {error.strerror or error}") from None
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)


def _answer(path: Path, folder: Path, reserved: frozenset[str]) -> Callable[[Any], Any]:
    if not NAME.fullmatch(path.stem):
        raise BadAgent(
            f"{path}: an agent's name begins with a letter and has up to 32 of a to z, 0 to 9 and -"
            " (a file that is no agent begins with _)"
        )
    if path.stem in reserved:
        raise BadAgent(f"{path}: {path.stem} is the server's own name, choose another")
    answer = getattr(_imported(path, folder), "answer", None)
    if answer is None:
        raise BadAgent(f"{path}: it has no function answer(turn)")
    fault = _fault(answer)
    if fault:
        line = getattr(getattr(inspect.unwrap(answer), "__code__", None), "co_firstlineno", 1)
        raise BadAgent(f"{path}:{line}: {fault}")
    found: Callable[[Any], Any] = answer
    return found


def _imported(path: Path, folder: Path) -> ModuleType:
    name = f"{PACKAGE}.{path.stem.replace('-', '_')}"
    if name in sys.modules:  # an agent before it has imported it
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, "every .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadAgent(f"{_place(error, path, folder)}: {_said(error, folder)}") from error
    return module


def _place(error: BaseException, path: Path, folder: Path) -> str:
    """Return the file and line of the user's where an error arose: the innermost of the folder."""
    if isinstance(error, SyntaxError) and error.filename and _is_of(error.filename, folder):
        return f"{error.filename}:{error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if _is_of(frame.filename, folder):
            return f"{frame.filename}:{frame.lineno}"
    return str(path)


def _said(error: BaseException, folder: Path) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    said = f"{type(error).__name__}: {' '.join(str(text).split())}".rstrip(": ")
    if isinstance(error, ModuleNotFoundError) and error.name and (folder / f"{error.name}.py").is_file():
        said += f" (write: from . import {error.name})"
    return said


def _fault(answer: Any) -> str | None:
    """Return what is wrong with an agent's `answer`."""
    if not callable(answer):
        return "answer must be a function: def answer(turn)"
    if inspect.iscoroutinefunction(answer) or inspect.isasyncgenfunction(answer):
        return "answer must not be async: write def answer(turn), and wait as in any other program"
    try:
        inspect.signature(answer).bind(None)
    except (TypeError, ValueError):
        return "answer must take one parameter: def answer(turn)"
    return None
