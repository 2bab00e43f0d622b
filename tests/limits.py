"""Limits on what a peer's bytes may cost, whatever else the machine does meanwhile."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Fail the test where this takes more of the CPU's time."""
    began = time.process_time()

    yield

    spent = time.process_time() - began
    assert spent < seconds, f"{spent:.2f} s of CPU"


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Fail the test where this holds more bytes of memory at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size, f"{peak:,} bytes"
