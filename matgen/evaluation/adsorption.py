"""Adsorption by grand-canonical Monte Carlo (RASPA3), in a process that is killed at a deadline: values or a status."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError

__all__ = ["Adsorption", "AdsorptionConfig", "adsorption_columns", "measure_adsorption", "require_raspalib"]

_NAN = float("nan")
AdsorptionStatus = Literal["ok", "timeout", "crashed", "failed", "not_run"]


@dataclass(frozen=True, kw_only=True)
class AdsorptionConfig:
    """How long the two simulations of a vacuum swing are, and how long they may take.

    The defaults are short: enough to rank frameworks, not to publish; the errors say how well each value is known.

    Args:
        initialization_cycles: before anything is averaged, of each simulation.
        production_cycles: averaged, of each simulation; a cycle is one move a molecule, at least 20.
        cutoff: Å, of Lennard-Jones and real-space Coulomb terms; the cell is repeated to twice that.
        seed: of the moves.
        deadline_s: wall clock seconds for one framework, both simulations.
        max_atoms: in the repeated cell; larger ones are refused.
    """

    initialization_cycles: int = 1000
    production_cycles: int = 2000
    cutoff: float = 12.0
    seed: int = 0
    deadline_s: float = 600.0
    max_atoms: int = 10_000

    def protocol(self) -> str:
        """One line for the table."""
        return (
            "grand-canonical Monte Carlo with RASPA3 (raspalib): CO2 from CO2:N2 15:85 at 298 K and 1 bar, less pure "
            "CO2 at 363 K and 0.1 bar; absolute loading; rigid framework, UFF Lennard-Jones parameters, EQeq charges, "
            f"TraPPE CO2 and N2, ideal gas outside, cut-off {self.cutoff:g} Å; {self.initialization_cycles} + "
            f"{self.production_cycles} cycles each"
        )


@dataclass(frozen=True, kw_only=True)
class Adsorption:
    """A vacuum swing of one framework; all numbers are NaN where the status is not "ok". All in mol/kg.

    co2_uptake, n2_uptake: from the mixture, 298 K and 1 bar. co2_uptake_vacuum: pure, 363 K and 0.1 bar.
    working_capacity: the first less the third. working_capacity_error: half of its 95 % interval, from block averages.
    """

    status: AdsorptionStatus
    reason: str = ""
    co2_uptake: float = _NAN
    n2_uptake: float = _NAN
    co2_uptake_vacuum: float = _NAN
    working_capacity: float = _NAN
    working_capacity_error: float = _NAN


_CONDITIONS = (
    {"temperature": 298.0, "pressure": 1e5, "fractions": {"CO2": 0.15, "N2": 0.85}},
    {"temperature": 363.0, "pressure": 1e4, "fractions": {"CO2": 1.0}},
)
"""K, Pa, mole fractions of the gas: adsorption and evacuation."""


def require_raspalib() -> None:
    """Say early that adsorption cannot be simulated.

    Raises:
        MissingDependencyError: raspalib is not installed.
    """
    if importlib.util.find_spec("raspalib") is None:
        raise MissingDependencyError("adsorption needs raspalib: pip install 'matgen[adsorption]'")


def adsorption_columns(adsorption: Adsorption | None, reason: str = "adsorption was not asked for") -> dict[str, Any]:
    """One row of a table; the status is "not_run" where there is no result.

    Args:
        adsorption: what was simulated.
        reason: why there is none.
    """
    found = adsorption if adsorption is not None else Adsorption(status="not_run", reason=reason)
    numbers = {f.name: getattr(found, f.name) for f in fields(Adsorption) if f.name not in ("status", "reason")}
    return {"adsorption_status": found.status, "adsorption_reason": found.reason, **numbers}


def measure_adsorption(structure: Structure, charges: np.ndarray, config: AdsorptionConfig | None = None) -> Adsorption:
    """Simulate the vacuum swing of a framework, CO2 from flue gas.

    Args:
        structure: the framework without guests.
        charges: [n] elementary charges of its atoms.
        config: lengths and limits.

    Returns:
        uptakes and the working capacity, or a status that says why there are none.

    Raises:
        MissingDependencyError: raspalib is not installed.

    Source: Fu et al., ICLR 2024 (MOFDiff), the working capacity; Rappe et al., JACS 114, 10024 (1992), UFF; Potoff,
    Siepmann, AIChE J. 47, 1676 (2001), TraPPE CO2 and N2; Ran, Sharma, Balestra et al., J. Chem. Phys. 161, 114106
    (2024), RASPA3.
    """
    config = config or AdsorptionConfig()
    repeats = num_cells(structure.lattice, 2.0 * config.cutoff)
    num_atoms = structure.num_atoms * int(np.prod(repeats))
    if num_atoms > config.max_atoms:
        words = f"{num_atoms} atoms in {'x'.join(map(str, repeats))} cells, more than the limit of {config.max_atoms}"
        return Adsorption(status="failed", reason=words)
    if not np.isfinite(charges).all():
        return Adsorption(status="failed", reason="a charge is not a finite number")
    require_raspalib()
    request = {
        "lengths": np.linalg.norm(structure.lattice, axis=1).tolist(),
        "angles": _angles(structure.lattice),
        "frac_coords": structure.frac_coords.tolist(),
        "elements": [SYMBOLS[z] for z in structure.atomic_numbers.tolist()],
        "charges": charges.tolist(),
        "repeats": repeats,
        "conditions": _CONDITIONS,
        "config": asdict(config),
    }
    answer = _ask(json.dumps(request), config.deadline_s)
    if isinstance(answer, Adsorption):
        return answer
    if "error" in answer:
        return Adsorption(status="failed", reason=str(answer["error"]))
    return _swing(*answer["uptakes"])


def _swing(full: dict[str, list[float]], empty: dict[str, list[float]]) -> Adsorption:
    (held, held_error), (left, left_error) = full["CO2"], empty["CO2"]
    return Adsorption(
        status="ok",
        co2_uptake=held,
        n2_uptake=full["N2"][0],
        co2_uptake_vacuum=left,
        working_capacity=held - left,
        working_capacity_error=float(np.hypot(held_error, left_error)),
    )


def num_cells(lattice: np.ndarray, width: float) -> list[int]:
    """How often a cell is repeated along each axis so that opposite faces are at least a width (Å) apart."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    return np.maximum(np.ceil(width / heights - 1e-9), 1).astype(int).tolist()


def _angles(lattice: np.ndarray) -> list[float]:
    """Alpha, beta and gamma in radians."""
    a, b, c = lattice / np.linalg.norm(lattice, axis=1, keepdims=True)
    return [float(np.arccos(np.clip(x @ y, -1.0, 1.0))) for x, y in ((b, c), (a, c), (a, b))]


def _ask(request: str, deadline_s: float) -> dict[str, Any] | Adsorption:
    with tempfile.TemporaryDirectory(prefix="matgen-gcmc-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "matgen.evaluation.adsorption_process"],
                input=request.encode(),
                capture_output=True,
                timeout=deadline_s,
                cwd=folder,  # RASPA may leave files
                env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path)},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Adsorption(status="timeout", reason=f"no answer within {deadline_s:g} s")
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        words = f"RASPA died with exit status {done.returncode} {' '.join(last)}"
        return Adsorption(status="crashed", reason=words[:300])
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
