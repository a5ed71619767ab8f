"""Waiting for what another process brings about."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float, say: Callable[[], str] = str, every: float = 0.1) -> float:
    """Wait until a condition holds; return the seconds it took, or fail with what `say` has to tell."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not after {seconds:g} s: {say()[-3000:]}"
        time.sleep(every)
    return time.monotonic() - began
