"""Is a framework chemically plausible? The checks that MOFChecker defines, on our own structures and bonds.

Every check says "passed", "failed" or "not_run"; one whose input is missing is "not_run", never "passed".
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from matgen.crystal.elements import COVALENT_RADII, SYMBOLS
from matgen.crystal.structure import Structure
from matgen.evaluation.mof_checks_atoms import Neighbors, close_pairs
from matgen.evaluation.mof_checks_cone import open_angle
from matgen.mof.bonds import Bonds, find_bonds
from matgen.mof.metals import is_metal
from matgen.mof.periodic_graph import find_components

__all__ = ["CHECKS", "CheckResult", "MofChecksConfig", "Status", "check_columns", "check_mof", "overall"]

Status = Literal["passed", "failed", "not_run"]

_RARE_EARTHS = (*range(57, 72), *range(89, 104))
_ALKALI = (3, 11, 19, 37, 55, 87, 4, 12, 20, 38, 56, 88)
# groups 1 to 3, Ti, Zr, Hf, the later 3d metals, Ag, Cd, Al, Ga, In, Tl: no stable terminal oxo ligand is known
_NO_TERMINAL_OXO = (*_ALKALI, 21, 39, 57, 89, 22, 40, 72, 25, 26, 27, 28, 29, 47, 30, 48, 13, 31, 49, 81)
_MEDIAN_RADIUS = float(np.median(COVALENT_RADII[1:]))


@dataclass(frozen=True, kw_only=True)
class MofChecksConfig:
    """Limits of the checks: those of MOFChecker.

    Args:
        max_neighbors: of carbon and of nitrogen without a metal neighbour.
        hydrogen_reach: Å; a hydrogen with two atoms of any kind within it has one too many.
        linear_carbon: degrees; how far a carbon with two neighbours may stand off the line through them, seen from the
            nearer one. With equal bonds that allows a bend of twice as much.
        linear_nitrogen: degrees; the same for nitrogen, and how far from planar counts as planar.
        short_nitrogen_bond: Å; a planar nitrogen with two bonds, both shorter, needs no third.
        amide_angle: degrees; M-NH2 with a smaller angle between its nearest two bonds misses a hydrogen.
        min_metal_neighbors: of rare earths, alkali and alkaline earth metals.
        open_angle: degrees; a metal whose neighbours leave more than this of the full turn free is exposed,
        exposed_neighbors: if it has fewer neighbours than this.
        max_charge: elementary charges.
        min_pore_limiting_diameter: Å.
    """

    max_neighbors: int = 4
    hydrogen_reach: float = 1.1
    linear_carbon: float = 10.0
    linear_nitrogen: float = 25.0
    short_nitrogen_bond: float = 1.4
    amide_angle: float = 135.0
    min_metal_neighbors: int = 4
    open_angle: float = 150.0
    exposed_neighbors: int = 6
    max_charge: float = 3.0
    min_pore_limiting_diameter: float = 2.4


@dataclass(frozen=True)
class CheckResult:
    """What one check says. reason: of a failure or of "not_run". atoms: indices of the atoms at fault."""

    status: Status
    reason: str = ""
    atoms: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class _Case:
    """What the checks look at."""

    structure: Structure
    bonds: Bonds
    neighbors: Neighbors
    config: MofChecksConfig

    @property
    def numbers(self) -> np.ndarray:
        return self.structure.atomic_numbers

    def of(self, *elements: int) -> list[int]:
        """Indices of the atoms of these elements."""
        return np.flatnonzero(np.isin(self.numbers, elements)).tolist()


def _atomic_overlaps(case: _Case) -> list[int]:
    numbers = case.numbers
    radii = np.where(numbers < len(COVALENT_RADII), COVALENT_RADII[np.minimum(numbers, 96)], _MEDIAN_RADIUS)
    first, second, distance = close_pairs(case.structure, float(radii.max()))
    close = distance < np.minimum(radii[first], radii[second])
    return np.unique(np.concatenate([first[close], second[close]])).tolist()


def _overcoordinated(element: int) -> Callable[[_Case], list[int]]:
    def check(case: _Case) -> list[int]:
        limit, metal = case.config.max_neighbors, is_metal(case.numbers)
        many = [i for i in case.of(element) if case.neighbors.count(i) > limit]
        return [i for i in many if not metal[case.neighbors.atoms(i)].any()]

    return check


def _overcoordinated_hydrogen(case: _Case) -> list[int]:
    first, second, _ = close_pairs(case.structure, case.config.hydrogen_reach)
    num = len(case.numbers)
    near = np.bincount(first, minlength=num) + np.bincount(second, minlength=num)
    return np.flatnonzero((case.numbers == 1) & (near > 1)).tolist()


def _undercoordinated_carbon(case: _Case) -> list[int]:
    found = []
    for i in case.of(6):
        count = case.neighbors.count(i)
        if count == 1:
            found.append(i)
        elif count == 2:
            off = case.neighbors.angle_at_nearest(i)
            if min(off, 180.0 - off) > case.config.linear_carbon:
                found.append(i)
    return found


def _undercoordinated_nitrogen(case: _Case) -> list[int]:
    checks = {1: _misses_on_one, 2: _misses_on_two, 3: _misses_on_three}
    by_count = ((i, checks.get(case.neighbors.count(i))) for i in case.of(7))
    return [i for i, check in by_count if check is not None and check(case, i)]


def _misses_on_one(case: _Case, i: int) -> bool:
    """A nitrile's carbon has two neighbours; one with more would need a nitrogen with more."""
    (other,) = case.neighbors.atoms(i).tolist()
    return case.neighbors.count(other) > 2 and not bool(is_metal(case.numbers[other]))


def _misses_on_two(case: _Case, i: int) -> bool:
    """Bent and planar, yet with a bond too long for a ring or a double bond: a secondary amine without its hydrogen."""
    config, neighbors = case.config, case.neighbors
    angle = neighbors.angle(i)
    if min(angle, 180.0 - angle) < config.linear_nitrogen:
        return False
    smallest = min(abs(x) for x in neighbors.dihedrals(i))
    planar = min(smallest, 180.0 - smallest) < config.linear_nitrogen
    return planar and not bool((neighbors.distances(i) < config.short_nitrogen_bond).all())


def _misses_on_three(case: _Case, i: int) -> bool:
    """An amine on a metal with two hydrogens only."""
    others = case.numbers[case.neighbors.atoms(i)]
    if case.neighbors.angle(i) >= case.config.amide_angle:
        return False
    return bool(is_metal(others).any()) and int((others == 1).sum()) == 2


def _few_neighbors(elements: Sequence[int]) -> Callable[[_Case], list[int]]:
    def check(case: _Case) -> list[int]:
        return [i for i in case.of(*elements) if case.neighbors.count(i) < case.config.min_metal_neighbors]

    return check


def _lone_molecules(case: _Case) -> list[int]:
    bonds = case.bonds
    parts = find_components(len(case.numbers), bonds.first, bonds.second, bonds.image)
    return np.flatnonzero(parts.dimension[parts.label] == 0).tolist()


def _terminal_oxo(case: _Case) -> list[int]:
    found = []
    for i in case.of(8):
        if case.neighbors.count(i) == 1 and case.numbers[case.neighbors.atoms(i)[0]] in _NO_TERMINAL_OXO:
            found.append(int(case.neighbors.atoms(i)[0]))
    return sorted(set(found))


def _exposed_metals(case: _Case) -> list[int]:
    config, found = case.config, []
    for i in np.flatnonzero(is_metal(case.numbers)).tolist():
        if case.neighbors.count(i) >= config.exposed_neighbors:
            continue
        angle = open_angle(case.neighbors.vectors(i), case.numbers[case.neighbors.atoms(i)])
        if angle is not None and angle > config.open_angle:
            found.append(i)
    return found


_ATOM_CHECKS: dict[str, tuple[Callable[[_Case], list[int]], str]] = {
    "no_atomic_overlap": (_atomic_overlaps, "closer to another than the smaller covalent radius"),
    "no_overcoordinated_carbon": (_overcoordinated(6), "more than four neighbours"),
    "no_overcoordinated_nitrogen": (_overcoordinated(7), "more than four neighbours"),
    "no_overcoordinated_hydrogen": (_overcoordinated_hydrogen, "more than one atom within reach"),
    "no_undercoordinated_carbon": (_undercoordinated_carbon, "one neighbour, or two and bent"),
    "no_undercoordinated_nitrogen": (_undercoordinated_nitrogen, "likely misses a hydrogen"),
    "no_undercoordinated_rare_earth": (_few_neighbors(_RARE_EARTHS), "fewer than four neighbours"),
    "no_undercoordinated_alkali": (_few_neighbors(_ALKALI), "fewer than four neighbours"),
    "no_lone_molecule": (_lone_molecules, "not bonded to the framework"),
    "no_terminal_oxo": (_terminal_oxo, "metal with an unlikely terminal oxygen"),
    "no_exposed_metal": (_exposed_metals, "metal open on one side"),
}

CHECKS: tuple[str, ...] = (
    "has_metal", "has_carbon", "has_hydrogen", *_ATOM_CHECKS, "no_high_charges", "porous",
)  # fmt: skip
"""Names of all checks, in order."""


def check_mof(
    structure: Structure,
    bonds: Bonds | None = None,
    *,
    charges: np.ndarray | None = None,
    charges_reason: str = "no charges were given",
    pore_limiting_diameter: float | None = None,
    porosity_reason: str = "no pore limiting diameter was given",
    config: MofChecksConfig | None = None,
) -> dict[str, CheckResult]:
    """Run every check on one framework.

    Args:
        structure: at least one atom, finite.
        bonds: of the structure; found by distances where none are given.
        charges: [n] elementary charges of the atoms (charge equilibration); None: "no_high_charges" is not run.
        charges_reason: why there are none.
        pore_limiting_diameter: Å; None: "porous" is not run.
        porosity_reason: why there is none.
        config: limits.

    Returns:
        a result for each of CHECKS.

    Source: Jin, Jablonka, Moubarak, Li, Smit, Digital Discovery 2025 (MOFChecker); CoRE MOF 2019 for the pore limit.
    """
    config = config or MofChecksConfig()
    bonds = bonds if bonds is not None else find_bonds(structure)
    case = _Case(structure, bonds, Neighbors(structure, bonds), config)
    numbers = case.numbers
    results = {
        "has_metal": _has(bool(is_metal(numbers).any()), "no metal"),
        "has_carbon": _has(6 in numbers, "no carbon"),
        "has_hydrogen": _has(1 in numbers, "no hydrogen"),
    }
    for name, (check, words) in _ATOM_CHECKS.items():
        results[name] = _flagged(check(case), numbers, words)
    results["no_high_charges"] = _charges(charges, charges_reason, numbers, config.max_charge)
    results["porous"] = _porous(pore_limiting_diameter, porosity_reason, config.min_pore_limiting_diameter)
    return results


def _has(there: bool, reason: str) -> CheckResult:
    return CheckResult("passed") if there else CheckResult("failed", reason)


def _flagged(atoms: Sequence[int], numbers: np.ndarray, words: str) -> CheckResult:
    if not atoms:
        return CheckResult("passed")
    named = ", ".join(f"{SYMBOLS[int(numbers[i])]}{i}" for i in atoms[:3])
    more = f" and {len(atoms) - 3} more" if len(atoms) > 3 else ""
    return CheckResult("failed", f"{named}{more}: {words}", tuple(atoms))


def _charges(charges: np.ndarray | None, reason: str, numbers: np.ndarray, limit: float) -> CheckResult:
    if charges is None:
        return CheckResult("not_run", reason)
    if not np.isfinite(charges).all():
        return CheckResult("failed", "a charge is not a finite number")
    high = np.flatnonzero(np.abs(charges) > limit).tolist()
    return _flagged(high, numbers, f"charge beyond {limit:g} e")


def _porous(diameter: float | None, reason: str, limit: float) -> CheckResult:
    if diameter is None or not np.isfinite(diameter):
        return CheckResult("not_run", reason)
    return _has(diameter >= limit, f"pore limiting diameter {diameter:.2f} Å, below {limit:g} Å")


def overall(results: Mapping[str, CheckResult], required: Collection[str] = CHECKS) -> Status:
    """Put the checks together: failed if one failed, else not run if one was not run, else passed.

    Args:
        results: of `check_mof`.
        required: names of the checks that count; one that is missing counts as not run.
    """
    found = [results[name].status if name in results else "not_run" for name in required]
    if "failed" in found:
        return "failed"
    return "not_run" if "not_run" in found else "passed"


def check_columns(results: Mapping[str, CheckResult], required: Collection[str] = CHECKS) -> dict[str, str]:
    """One row of a table: check_NAME for each check, mof_valid, and the reasons of all that did not pass."""
    row: dict[str, str] = {f"check_{name}": results[name].status if name in results else "not_run" for name in CHECKS}
    unhappy = [f"{name}: {results[name].reason}" for name in required if name in results and results[name].reason]
    return row | {"mof_valid": overall(results, required), "checks_reason": "; ".join(unhappy)}
