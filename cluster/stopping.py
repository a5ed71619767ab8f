"""A wish to stop, carried from a signal at the driver to workers on any machine by a file that all can see."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Stoppable(Protocol):
    """What can be asked to stop."""

    stop_requested: bool


@contextlib.contextmanager
def signals_to_file(file: Path) -> Iterator[None]:
    """Turn a signal that reaches the driver into a file, which the workers see wherever they run."""
    file.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        file.touch()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def watching(file: Path, trainer: Stoppable) -> Iterator[None]:
    """Ask the trainer to stop once the file is there."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            if file.exists():
                trainer.stop_requested = True

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
