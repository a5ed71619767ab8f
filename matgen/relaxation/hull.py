"""The convex hull of a reference set's energies, and how far above it a crystal lies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.stats import spearmanr

from matgen.crystal.elements import SYMBOLS

NUM_ELEMENTS = 119  # one slot per Z, 0 unused


@dataclass(frozen=True)
class HullDistance:
    """Energy above the hull, eV/atom; negative below it; NaN where status is not "ok" ("missing_reference").

    decomposition: ids of the reference phases that the hull has at this composition, with their shares of the atoms.
    """

    value: float
    status: str = "ok"
    reason: str = ""
    decomposition: tuple[tuple[str, float], ...] = ()


class Hull:
    """The lower convex envelope of energies over composition.

    The envelope at a composition is the cheapest mixture of reference phases that has it: a linear programme over the
    phases whose elements all occur in it. No triangulation is kept, so any number of elements will do.

    Args:
        ids: names of the reference phases.
        atomic_numbers: one array per phase, Z of each atom of a cell.
        energies_per_atom: eV/atom; phases with a NaN are left out.
    """

    def __init__(
        self, ids: Sequence[str], atomic_numbers: Sequence[np.ndarray], energies_per_atom: Sequence[float]
    ) -> None:
        energy = np.asarray(energies_per_atom, dtype=np.float64)
        shares = composition_shares(atomic_numbers)
        finite = np.flatnonzero(np.isfinite(energy))
        order = finite[np.argsort(energy[finite], kind="stable")]
        _, first = np.unique(np.round(shares[order], 9), axis=0, return_index=True)  # the lowest of each composition
        chosen = order[np.sort(first)]
        self.ids = [ids[int(k)] for k in chosen]
        self.num_entries = len(finite)
        self._shares, self._energy = shares[chosen], energy[chosen]
        self._present = self._shares > 0
        self._element_bits = _element_bits(self._present)
        self._known: dict[bytes, tuple[float, tuple[tuple[str, float], ...]]] = {}

    @property
    def num_compositions(self) -> int:
        """Distinct compositions, each by its lowest phase."""
        return len(self.ids)

    @property
    def elements(self) -> tuple[int, ...]:
        """Z of the elements that have a reference phase of their own."""
        alone = self._present.sum(1) == 1
        return tuple(int(z) for z in np.flatnonzero(self._present[alone].any(0)))

    def stable_ids(self, tolerance: float = 1e-6) -> list[str]:
        """The reference phases that lie on the hull, within a tolerance in eV/atom."""
        return [
            name
            for name, shares, energy in zip(self.ids, self._shares, self._energy, strict=True)
            if energy - self._envelope(shares)[0] <= tolerance
        ]

    def e_above_hull(self, atomic_numbers: np.ndarray, energy_per_atom: float) -> HullDistance:
        """How far above the hull a crystal lies.

        Args:
            atomic_numbers: Z of each atom of a cell.
            energy_per_atom: of the same potential as the hull's, eV/atom.

        Returns:
            The distance; its status is "missing_reference" where an element has no reference phase.
        """
        shares = composition_shares([np.asarray(atomic_numbers)])[0]
        missing = sorted(set(np.flatnonzero(shares).tolist()) - set(self._reachable(shares)))
        if missing:
            names = ", ".join(SYMBOLS[z] for z in missing)
            return HullDistance(float("nan"), "missing_reference", f"no reference phase reaches {names}")
        if not np.isfinite(energy_per_atom):
            return HullDistance(float("nan"), "non_finite", "the energy is not finite")
        key = np.round(shares, 9).tobytes()
        if key not in self._known:
            self._known[key] = self._envelope(shares)
        envelope, decomposition = self._known[key]
        if not np.isfinite(envelope):
            reason = "no mixture of reference phases has this composition"
            return HullDistance(float("nan"), "missing_reference", reason)
        return HullDistance(energy_per_atom - envelope, decomposition=decomposition)

    def _candidates(self, shares: np.ndarray) -> np.ndarray:
        low, high = ~_element_bits(shares[None] > 0)[:, 0]
        return np.flatnonzero(((self._element_bits[0] & low) | (self._element_bits[1] & high)) == 0)

    def _reachable(self, shares: np.ndarray) -> list[int]:
        return [int(z) for z in np.flatnonzero(self._present[self._candidates(shares)].any(0))]

    def _envelope(self, shares: np.ndarray) -> tuple[float, tuple[tuple[str, float], ...]]:
        candidates, elements = self._candidates(shares), np.flatnonzero(shares)
        if len(candidates) == 0:
            return float("nan"), ()
        solution = linprog(
            self._energy[candidates],
            A_eq=self._shares[np.ix_(candidates, elements)].T,
            b_eq=shares[elements],
            bounds=(0, None),
            method="highs",
        )
        if solution.status != 0:
            return float("nan"), ()
        used = np.flatnonzero(solution.x > 1e-8)
        return float(solution.fun), tuple((self.ids[int(candidates[k])], float(solution.x[k])) for k in used)


def _element_bits(present: np.ndarray) -> np.ndarray:
    """bool[N, 119] as two words of bits, int64[2, N]: a phase is looked for among tens of thousands at each call."""
    weights = np.left_shift(np.int64(1), np.arange(60, dtype=np.int64))
    low, high = present[:, :60] @ weights, present[:, 60:] @ weights[: NUM_ELEMENTS - 60]
    return np.stack([low, high])


def composition_shares(atomic_numbers: Sequence[np.ndarray]) -> np.ndarray:
    """Share of each element in the atoms of each crystal, float64[N, 119], column Z."""
    shares = np.zeros((len(atomic_numbers), NUM_ELEMENTS))
    for row, numbers in zip(shares, atomic_numbers, strict=True):
        row += np.bincount(np.asarray(numbers, dtype=np.int64), minlength=NUM_ELEMENTS) / len(numbers)
    return shares


@dataclass(frozen=True)
class Calibration:
    """How our distances compare with labels for crystals that were kept out of the hull.

    num: crystals compared. num_missing: without a reference or energy. spearman: of max(distance, 0) and label.
    mae, bias: mean absolute and mean difference of max(distance, 0) from the label, eV/atom. agree_stable: share on
    the same side of 0.001 eV/atom; agree_metastable: of 0.1.
    """

    num: int
    num_missing: int
    spearman: float
    mae: float
    bias: float
    agree_stable: float
    agree_metastable: float


def calibrate(distances: Sequence[float], labels: Sequence[float]) -> Calibration:
    """Compare distances from a local hull with labels of the same crystals.

    Args:
        distances: eV/atom, NaN where there is none; of crystals that are not in the hull themselves.
        labels: e_above_hull from elsewhere, eV/atom, not negative.
    """
    ours, theirs = np.asarray(distances, dtype=float), np.asarray(labels, dtype=float)
    known = np.isfinite(ours) & np.isfinite(theirs)
    above, label = np.maximum(ours[known], 0.0), theirs[known]
    if len(above) < 2:
        nan = float("nan")
        return Calibration(len(above), int((~known).sum()), nan, nan, nan, nan, nan)
    return Calibration(
        num=len(above),
        num_missing=int((~known).sum()),
        spearman=float(spearmanr(above, label).statistic),
        mae=float(np.abs(above - label).mean()),
        bias=float((above - label).mean()),
        agree_stable=float(((above <= 1e-3) == (label <= 1e-3)).mean()),
        agree_metastable=float(((above <= 0.1) == (label <= 0.1)).mean()),
    )
