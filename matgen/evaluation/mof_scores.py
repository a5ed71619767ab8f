"""Everything that is known about one generated framework by itself, as one row of plain values."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import StructureError, UnsupportedElementError
from matgen.evaluation.adsorption import Adsorption, AdsorptionConfig, adsorption_columns, measure_adsorption
from matgen.evaluation.eqeq import EqeqConfig, equilibrated_charges
from matgen.evaluation.mof_checks import CHECKS, CheckResult, MofChecksConfig, check_columns, check_mof
from matgen.evaluation.mof_identity import framework_identity
from matgen.evaluation.porosity import Porosity, PorosityWorker, porosity_columns
from matgen.evaluation.validity import density
from matgen.mof.bonds import Bonds
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework

__all__ = ["MOF_SCORE_COLUMNS", "MofScoreConfig", "score_mof"]

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class MofScoreConfig:
    """Settings of the per-framework scores.

    Args:
        checks: limits of the checks.
        charges: of charge equilibration.
        required: the checks that a valid framework passes.
        max_atoms_charges: larger cells get no charges, and "no_high_charges" is not run.
        adsorption: simulate the vacuum swing of valid frameworks; None: not run.
    """

    checks: MofChecksConfig = field(default_factory=MofChecksConfig)
    charges: EqeqConfig = field(default_factory=EqeqConfig)
    required: tuple[str, ...] = CHECKS
    max_atoms_charges: int = 1500
    adsorption: AdsorptionConfig | None = None


MOF_SCORE_COLUMNS: dict[str, type] = {
    **dict.fromkeys((f"check_{name}" for name in CHECKS), str),
    "mof_valid": str, "checks_reason": str, "porosity_status": str, "porosity_reason": str,
    "largest_cavity_diameter": float, "pore_limiting_diameter": float, "accessible_surface_area": float,
    "void_fraction": float, "identity": str, "identity_reason": str, "density": float, "num_blocks": int,
    "num_kinds": int, "num_atoms": int, "num_elements": int, "elements": str, "adsorption_status": str,
    "adsorption_reason": str, "co2_uptake": float, "n2_uptake": float, "co2_uptake_vacuum": float,
    "working_capacity": float, "working_capacity_error": float,
}  # fmt: skip
"""Name and type of every column of `score_mof`."""


def score_mof(
    structure: Structure | None,
    bonds: Bonds | None = None,
    framework: Framework | None = None,
    *,
    worker: PorosityWorker | None = None,
    porosity_reason: str = "porosity was not asked for",
    config: MofScoreConfig | None = None,
) -> dict[str, Any]:
    """Score one framework.

    Args:
        structure: the relaxed framework; None: nothing came out, and every column says so.
        bonds: of the structure; None: found by distances.
        framework: its building blocks, for its identity; None: it is decomposed.
        worker: measures pores; None: porosity is not run.
        porosity_reason: why there is no worker.
        config: settings.

    Returns:
        plain values under the names of `MOF_SCORE_COLUMNS`.

    Raises:
        MissingDependencyError: adsorption is asked for, and raspalib is not installed.
    """
    config = config or MofScoreConfig()
    if structure is None:
        return _empty_row("there is no structure")
    charges, charges_reason = _charges(structure, config)
    porosity = worker.measure(structure) if worker is not None else None
    pores = porosity_columns(porosity, porosity_reason)
    checks = check_mof(
        structure,
        bonds,
        charges=charges,
        charges_reason=charges_reason,
        pore_limiting_diameter=_diameter(porosity),
        porosity_reason=f"porosity: {pores['porosity_status']}, {pores['porosity_reason']}",
        config=config.checks,
    )
    framework, identity_reason = (framework, "") if framework is not None else _decomposed(structure)
    verdict = check_columns(checks, config.required)
    swing, adsorption_reason = _adsorption(structure, charges, charges_reason, verdict["mof_valid"], config.adsorption)
    return {
        **verdict,
        **pores,
        **adsorption_columns(swing, adsorption_reason),
        **_content_columns(structure, framework, identity_reason),
    }


def _content_columns(structure: Structure, framework: Framework | None, identity_reason: str) -> dict[str, Any]:
    """What the framework consists of: its blocks, its elements, and how dense they lie."""
    elements = np.unique(structure.atomic_numbers).tolist()
    return {
        "identity": framework_identity(framework) if framework is not None else "",
        "identity_reason": identity_reason,
        "density": density(structure),
        "num_blocks": framework.num_blocks if framework is not None else 0,
        "num_kinds": len({block.identity for block in framework.blocks}) if framework is not None else 0,
        "num_atoms": structure.num_atoms,
        "num_elements": len(elements),
        "elements": " ".join(map(str, elements)),
    }


def _empty_row(reason: str) -> dict[str, Any]:
    checks = {name: CheckResult("not_run", reason) for name in CHECKS}
    return {
        **check_columns(checks),
        **porosity_columns(None, reason),
        **adsorption_columns(None, reason),
        "checks_reason": reason,
        "identity": "",
        "identity_reason": reason,
        "density": _NAN,
        "num_blocks": 0,
        "num_kinds": 0,
        "num_atoms": 0,
        "num_elements": 0,
        "elements": "",
    }


def _charges(structure: Structure, config: MofScoreConfig) -> tuple[np.ndarray | None, str]:
    if structure.num_atoms > config.max_atoms_charges:
        return None, f"{structure.num_atoms} atoms, more than the limit of {config.max_atoms_charges} for charges"
    try:
        return equilibrated_charges(structure, config.charges), ""
    except UnsupportedElementError as error:
        return None, str(error)
    except np.linalg.LinAlgError:
        return None, "the equations of charge equilibration have no solution"


def _adsorption(
    structure: Structure, charges: np.ndarray | None, reason: str, valid: str, config: AdsorptionConfig | None
) -> tuple[Adsorption | None, str]:
    if config is None:
        return None, "adsorption was not asked for"
    if valid != "passed":
        return None, "only valid frameworks are simulated"
    if charges is None:
        return None, f"no charges: {reason}"
    return measure_adsorption(structure, charges, config), ""


def _diameter(porosity: Porosity | None) -> float | None:
    return porosity.pore_limiting_diameter if porosity is not None and porosity.status == "ok" else None


def _decomposed(structure: Structure) -> tuple[Framework | None, str]:
    try:
        return decompose(structure), ""
    except StructureError as error:
        return None, f"{error.status}: {error}"
