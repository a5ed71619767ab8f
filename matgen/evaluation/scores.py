"""Per-structure scores: one row per structure drawn, whatever is wrong with it. Pure, so shards can run anywhere."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.crystal.structure import Structure, check
from matgen.errors import StructureError
from matgen.evaluation.composition import CompositionConfig, composition_counts, is_compositionally_valid
from matgen.evaluation.symmetry import SymmetryConfig, detect_space_group, detect_symmetry, is_supergroup
from matgen.evaluation.table import EmptyTableError, Table
from matgen.evaluation.validity import (
    ValidityConfig,
    closest_contacts,
    density,
    is_strictly_valid,
    is_structurally_valid,
)

logger = logging.getLogger(__name__)

_FLOATS = ("volume", "density", "max_length", "min_distance", "min_radii_ratio")
_FLAGS = ("structure_valid", "strict_valid", "composition_valid", "valid")
_COUNTS = ("num_atoms", "num_elements", "space_group_detected", "space_group_requested")
_TEXTS = ("status", "reason", "formula", "template", "canonical_template")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Everything that decides a per-structure score."""

    validity: ValidityConfig = field(default_factory=ValidityConfig)
    composition: CompositionConfig = field(default_factory=CompositionConfig)
    symmetry: SymmetryConfig = field(default_factory=SymmetryConfig)


def fidelity_column(symprec: float) -> str:
    """Name of the column with the group detected at one tolerance, as space_group_symprec_0.01."""
    return f"space_group_symprec_{symprec:g}"


def _empty_columns(num: int, config: ScoreConfig) -> Table:
    table: Table = {name: np.full(num, np.nan) for name in _FLOATS}
    table |= {name: np.zeros(num, dtype=bool) for name in _FLAGS}
    table |= {name: np.zeros(num, dtype=np.int64) for name in _COUNTS}
    table |= {name: np.full(num, "", dtype=object) for name in _TEXTS}
    table |= {fidelity_column(s): np.zeros(num, dtype=np.int64) for s in config.symmetry.fidelity_symprecs}
    return table


def score_structures(
    structures: Sequence[Structure | None],
    requested_space_groups: Sequence[int] | None = None,
    config: ScoreConfig | None = None,
    *,
    statuses: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
) -> Table:
    """Score structures one by one.

    Args:
        structures: in the order of their rows; None where an earlier stage has failed.
        requested_space_groups: 1..230, one per structure; 0 or None where none was requested. With them the groups at
            all of `fidelity_symprecs` are detected, without them only at `symprec` (the other columns stay 0).
        config: what to check and how.
        statuses: of earlier stages ("ok" or a failure word): such a failure is kept, and the row counts as invalid.
        reasons: texts that go with `statuses`.

    Returns:
        Columns of equal length, one row per structure: status, reason, num_atoms, num_elements, formula, volume (Å^3),
        density (g/cm^3), max_length (Å), min_distance (Å), min_radii_ratio, structure_valid, strict_valid,
        composition_valid, valid (structure and composition), space_group_detected (0: none found), template,
        canonical_template, space_group_requested, space_group_symprec_*. A failed row has NaN, False, 0 and "".

    Raises:
        EmptyTableError: no structure was given.
    """
    config = config or ScoreConfig()
    if len(structures) == 0:
        raise EmptyTableError("no structures to score")
    table = _empty_columns(len(structures), config)
    if requested_space_groups is not None:
        table["space_group_requested"][:] = [int(g or 0) for g in requested_space_groups]
    for i, structure in enumerate(structures):
        status = statuses[i] if statuses is not None else "ok"
        if structure is None or status != "ok":
            table["status"][i] = status if status != "ok" else "missing"
            table["reason"][i] = reasons[i] if reasons is not None else "no structure came out of an earlier stage"
            continue
        try:
            check(structure, min_distance_allowed=0.0, max_atomic_number=len(COVALENT_RADII) - 1)
            row = _physical_row(structure, config)
            row |= _symmetry_row(structure, requested_space_groups is not None, config)
        except StructureError as error:
            row = {"status": error.status, "reason": str(error)}
        for name, value in row.items():
            table[name][i] = value
    _add_fidelity(table, config)
    return table


def _physical_row(structure: Structure, config: ScoreConfig) -> dict[str, object]:
    contacts = closest_contacts(structure)
    mass_density = density(structure)
    max_length = float(np.linalg.norm(structure.lattice, axis=1).max())
    counts = composition_counts(structure.atomic_numbers)
    structure_valid = is_structurally_valid(contacts, structure.volume, max_length, config.validity)
    composition_valid = is_compositionally_valid(counts, config.composition)
    return {
        "status": "ok",
        "num_atoms": structure.num_atoms,
        "num_elements": len(counts),
        "formula": structure.formula,
        "volume": structure.volume,
        "density": mass_density,
        "max_length": max_length,
        "min_distance": contacts.distance,
        "min_radii_ratio": contacts.ratio,
        "structure_valid": structure_valid,
        "strict_valid": is_strictly_valid(contacts, mass_density, structure.lattice, config.validity),
        "composition_valid": composition_valid,
        "valid": structure_valid and composition_valid,
    }


def _symmetry_row(structure: Structure, with_fidelity: bool, config: ScoreConfig) -> dict[str, object]:
    """Detected groups; a structure without one stays a scored row with group 0, and says so in its reason."""
    row: dict[str, object] = {}
    reasons = []
    symprecs = set(config.symmetry.fidelity_symprecs) if with_fidelity else set()
    try:
        found = detect_symmetry(structure, config.symmetry.symprec)
        row |= {
            "space_group_detected": found.space_group_number,
            "template": found.template,
            "canonical_template": found.canonical_template,
        }
        if config.symmetry.symprec in symprecs:
            row[fidelity_column(config.symmetry.symprec)] = found.space_group_number
    except StructureError as error:
        reasons.append(str(error))
    for symprec in sorted(symprecs - {config.symmetry.symprec}):
        try:
            row[fidelity_column(symprec)] = detect_space_group(structure, symprec)
        except StructureError as error:
            reasons.append(str(error))
    return row | {"reason": "; ".join(reasons)}


def _add_fidelity(table: Table, config: ScoreConfig) -> None:
    requested = table["space_group_requested"]
    for symprec in config.symmetry.fidelity_symprecs:
        detected = table[fidelity_column(symprec)]
        table[f"exact_symprec_{symprec:g}"] = (requested > 0) & (detected == requested)
        table[f"supergroup_symprec_{symprec:g}"] = (
            (requested > 0) & (detected != requested) & (detected > 0) & is_supergroup(detected, requested)
        )


def shards(num: int, shard_size: int) -> Iterator[slice]:
    """Slices that cut `num` rows into shards, the last one possibly short."""
    for start in range(0, num, shard_size):
        yield slice(start, min(start + shard_size, num))
