"""Pores of a framework by Zeo++ (pyzeo), in a process that can be killed: a value or a status, never a hang."""

import importlib.util
import json
import logging
import os
import select
import subprocess
import sys
import time
import weakref
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from matgen.child_process import end_process
from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError
from matgen.evaluation.validity import density

__all__ = ["Porosity", "PorosityConfig", "PorosityWorker", "porosity_columns"]

logger = logging.getLogger(__name__)

_NAN = float("nan")
_SHAKES = 2
PorosityStatus = Literal["ok", "timeout", "crashed", "failed"]


@dataclass(frozen=True, kw_only=True)
class PorosityConfig:
    """What is measured, and how long it may take.

    Args:
        probe_radius: Å, of the accessible surface: nitrogen.
        surface_samples: random points on the surface of each atom.
        void_probe_radius: Å; 0 is the geometric void: everything outside the atoms.
        void_samples: random points in the cell for each atom.
        refine_between: Å; where the pore limiting diameter found with one sphere an atom lies between these, the two
            diameters are found again with high-accuracy radii (some 20 small spheres an atom, seconds to minutes).
            One sphere an atom errs by up to 0.6 Å, mostly downwards. (0, inf) refines all.
        deadline_s: wall clock seconds for one framework.
        max_atoms: larger cells are refused.
    """

    probe_radius: float = 1.86
    surface_samples: int = 500
    void_probe_radius: float = 0.0
    void_samples: int = 500
    refine_between: tuple[float, float] = (1.6, 2.6)
    deadline_s: float = 60.0
    max_atoms: int = 3000

    def protocol(self) -> str:
        """One line for the table."""
        return (
            f"Zeo++ (pyzeo) with its own radii; diameters with high-accuracy radii where the pore limit is within "
            f"{self.refine_between[0]:g} to {self.refine_between[1]:g} Å; accessible surface with a probe of "
            f"{self.probe_radius:g} Å, void fraction with one of {self.void_probe_radius:g} Å"
        )


@dataclass(frozen=True, kw_only=True)
class Porosity:
    """Pores of one framework; all numbers are NaN where the status is not "ok".

    largest_cavity_diameter, pore_limiting_diameter: Å. accessible_surface_area: m²/g, channels only. void_fraction:
    share of the cell, channels and pockets.
    """

    status: PorosityStatus
    reason: str = ""
    largest_cavity_diameter: float = _NAN
    pore_limiting_diameter: float = _NAN
    accessible_surface_area: float = _NAN
    void_fraction: float = _NAN


def porosity_columns(porosity: Porosity | None, reason: str = "porosity was not asked for") -> dict[str, Any]:
    """One row of a table; the status is "not_run" where there is no result.

    Args:
        porosity: what was measured.
        reason: why there is none.
    """
    row = asdict(porosity) if porosity is not None else asdict(Porosity(status="failed")) | {"reason": reason}
    status = porosity.status if porosity is not None else "not_run"
    numbers = {field.name: row[field.name] for field in fields(Porosity) if field.name not in ("status", "reason")}
    return {"porosity_status": status, "porosity_reason": row["reason"], **numbers}


def require_pyzeo() -> None:
    """Say early that pores cannot be measured.

    Raises:
        MissingDependencyError: pyzeo is not installed.
    """
    if importlib.util.find_spec("pyzeo") is None:
        raise MissingDependencyError("porosity needs pyzeo: pip install 'matgen[pores]'")


class PorosityWorker:
    """A child process that measures one framework after the other.

    It is killed at the deadline and started anew after that, or after a crash; the framework at fault gets a status.
    """

    def __init__(self, config: PorosityConfig | None = None) -> None:
        """Start nothing yet.

        Raises:
            MissingDependencyError: pyzeo is not installed.
        """
        require_pyzeo()
        self.config = config or PorosityConfig()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes]], PorosityWorker] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "_process": None, "_end": None}

    def close(self) -> None:
        """End the child process, if there is one."""
        self._process = None
        if self._end is not None:
            self._end()
            self._end = None

    def measure(self, structure: Structure) -> Porosity:
        """Measure the pores of a framework.

        Zeo++ ends itself on some symmetric cells, whose Voronoi vertices coincide: then the atoms are shaken by 0.001 Å
        and moved together by a part of the cell, and it is asked again.

        Args:
            structure: the framework without guests.

        Returns:
            diameters, surface and void fraction, or a status that says why there are none.

        Source: Willems, Rycroft, Kazi, Meza, Haranczyk, Microporous Mesoporous Mater. 149 (2012) 134 (Zeo++).
        """
        if structure.num_atoms == 0 or not np.isfinite(structure.cart_coords).all() or structure.volume < 1.0:
            return Porosity(status="failed", reason="no atoms, no volume or a coordinate that is not finite")
        if structure.num_atoms > self.config.max_atoms:
            words = f"{structure.num_atoms} atoms, more than the limit of {self.config.max_atoms}"
            return Porosity(status="failed", reason=words)
        answer = self._ask(self._request(structure))
        for seed in range(_SHAKES):
            if not (isinstance(answer, Porosity) and answer.status == "crashed"):
                break
            answer = self._ask(self._request(_shaken(structure, seed)))
        if isinstance(answer, Porosity):
            return answer
        if "error" in answer:
            return Porosity(status="failed", reason=str(answer["error"]))
        area = float(answer["area"]) * 1e-20 / (density(structure) * structure.volume * 1e-24)
        return Porosity(
            status="ok",
            largest_cavity_diameter=float(answer["largest_cavity_diameter"]),
            pore_limiting_diameter=float(answer["pore_limiting_diameter"]),
            accessible_surface_area=area,
            void_fraction=float(answer["void_fraction"]),
        )

    def _request(self, structure: Structure) -> bytes:
        request = {
            "lattice": structure.lattice.tolist(),
            "frac_coords": structure.frac_coords.tolist(),
            "atomic_numbers": structure.atomic_numbers.tolist(),
            "config": asdict(self.config),
        }
        return json.dumps(request).encode() + b"\n"

    def _ask(self, line: bytes) -> dict[str, Any] | Porosity:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:
            return self._dead(process)
        text = self._read_line(process, time.monotonic() + self.config.deadline_s)
        if text is None:
            self.close()
            return Porosity(status="timeout", reason=f"no answer within {self.config.deadline_s:g} s")
        return json.loads(text) if text.endswith(b"\n") else self._dead(process)

    def _read_line(self, process: "subprocess.Popen[bytes]", end: float) -> bytes | None:
        """A line, what is left of one when the process has died, or None at the deadline."""
        assert process.stdout is not None
        descriptor, text = process.stdout.fileno(), b""
        while not text.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                return None
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            text += chunk
        return text

    def _dead(self, process: "subprocess.Popen[bytes]") -> Porosity:
        code = process.wait()
        self.close()
        logger.debug("the porosity process died with exit status %d", code)
        return Porosity(status="crashed", reason=f"Zeo++ died with exit status {code}")

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "matgen.evaluation.porosity_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            self._end = weakref.finalize(self, end_process, self._process)  # at the latest at exit
        return self._process


def _shaken(structure: Structure, seed: int) -> Structure:
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=1e-3, size=(structure.num_atoms, 3)) @ np.linalg.inv(structure.lattice)
    return Structure(structure.lattice, (structure.frac_coords + noise + rng.random(3)) % 1.0, structure.atomic_numbers)
