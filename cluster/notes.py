"""Last words of a worker: which rows it was at, and the trace of a native crash or of a row over its deadline."""

import contextlib
import faulthandler
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEADER = 48
_TIMEOUT, _FATAL = "Timeout (", "Fatal Python error: "


@dataclass(frozen=True)
class LastWords:
    """What a dead worker left.

    Attributes:
        start: first row that it was at, counted in the shard.
        stop: one past the last of them.
        timed_out: it ended itself, for these rows took too long.
        fault: name of a native crash, as in "Segmentation fault"; empty where it was killed from outside.
        place: the innermost Python line of its trace.
    """

    start: int
    stop: int
    timed_out: bool
    fault: str
    place: str


class Note:
    """A file that says where a worker is; the kernel keeps what was written when the process dies."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def at(self, start: int, stop: int, deadline_s: float | None) -> None:
        """Say that rows start..stop are next; with a deadline, this process ends itself when they take longer."""
        if self._descriptor is None:
            return
        os.pwrite(self._descriptor, f"{start} {stop}".ljust(_HEADER - 1).encode() + b"\n", 0)
        if deadline_s is not None:  # a thread of C: it also ends native code that never comes back
            faulthandler.dump_traceback_later(deadline_s, exit=True, file=self._descriptor)


@contextlib.contextmanager
def open_note(path: Path | None) -> Iterator[Note]:
    """Keep a note inside the block; it is deleted at the end, so only the dead leave one.

    Args:
        path: of the file; None gives a note that nobody reads.
    """
    if path is None:
        yield Note(None)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.lseek(descriptor, _HEADER, os.SEEK_SET)
        faulthandler.enable(file=descriptor, all_threads=False)
        yield Note(descriptor)
    finally:
        faulthandler.cancel_dump_traceback_later()
        if sys.__stderr__ is not None:
            faulthandler.enable(file=sys.__stderr__)
        os.close(descriptor)
        path.unlink(missing_ok=True)


def read_note(path: Path) -> LastWords | None:
    """Read what a dead worker left; None where it left nothing that can be read."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    head, _, trace = text.partition("\n")
    bounds = head.split()
    if len(bounds) != 2 or not all(word.isdigit() for word in bounds):
        return None
    fault = trace.split(_FATAL, 1)[1].splitlines()[0] if _FATAL in trace else ""
    return LastWords(int(bounds[0]), int(bounds[1]), _TIMEOUT in trace, fault, _place(trace))


def _place(trace: str) -> str:
    """Return the innermost line of the main thread, which a trace of all threads has last."""
    main = trace.split("\nThread ")[-1]
    lines = [line.strip() for line in main.splitlines() if line.strip().startswith("File ")]
    return lines[0] if lines else ""
