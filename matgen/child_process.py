"""Child processes that may hang or die: how one ends."""

import contextlib
import subprocess

__all__ = ["end_process"]


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, wait for it and close its pipes; one that has ended already is only tidied up."""
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
