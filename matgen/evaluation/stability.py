"""Stable, and stable, unique and novel (S.U.N.): shares over all samples drawn, given energies above a hull."""

from dataclasses import dataclass

import numpy as np

from matgen.evaluation.table import Table


@dataclass(frozen=True, kw_only=True)
class StabilityConfig:
    """Thresholds on the energy above the hull, eV/atom. Energy and hull must come from one potential.

    min_elements: an elemental crystal counts as well with 1; published S.U.N. figures often ask for 2.
    """

    stable: float = 0.0
    metastable: float = 0.1
    min_elements: int = 1

    def protocol(self, hull: str) -> str:
        """One line for the table; `hull` says which potential and which entries, with their number."""
        return (
            f"energy above hull <= {self.stable} (stable) or <= {self.metastable} eV/atom (metastable) after "
            f"relaxation; hull: {hull}; at least {self.min_elements} elements; a share of all samples drawn, failed "
            "ones included; a class of equal structures counts once"
        )


def representative_weights(flag: np.ndarray, component: np.ndarray) -> np.ndarray:
    """Weights whose sum is the number of classes that have a flagged member, shared out among those members.

    Args:
        flag: bool[n].
        component: int[n], class of equal structures; -1 for none (never counted).

    Returns:
        float64[n]: independent of the order of the rows, so the mean can be resampled like any other.
    """
    flag = np.asarray(flag, dtype=bool) & (np.asarray(component) >= 0)
    weights = np.zeros(len(flag))
    if flag.any():
        _, inverse, sizes = np.unique(np.asarray(component)[flag], return_inverse=True, return_counts=True)
        weights[flag] = 1.0 / sizes[inverse]
    return weights


def representatives(flag: np.ndarray, component: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """bool[n]: of each class with flagged members, the flagged one of lowest rank (such as its energy), ties by row."""
    chosen = np.zeros(len(flag), dtype=bool)
    rows = np.flatnonzero(np.asarray(flag, dtype=bool) & (np.asarray(component) >= 0))
    rows = rows[np.argsort(np.asarray(rank)[rows], kind="stable")]
    _, first = np.unique(np.asarray(component)[rows], return_index=True)
    chosen[rows[first]] = True
    return chosen


def stability_columns(
    e_above_hull: np.ndarray,
    num_elements: np.ndarray,
    component: np.ndarray,
    novel: np.ndarray,
    config: StabilityConfig | None = None,
) -> Table:
    """Per-structure flags of stability and S.U.N.

    Args:
        e_above_hull: eV/atom after relaxation; NaN where a sample failed: it is not stable.
        num_elements: int[n].
        component: class of equal structures (`novelty.match_structures`), -1 where there is no structure.
        novel: bool[n], against the reference that is meant.
        config: thresholds.

    Returns:
        Columns stable, metastable (bool), sun, msun (bool, one representative per class, the lowest in energy) and
        sun_weight, msun_weight (float; their mean is the share over all samples).
    """
    config = config or StabilityConfig()
    energy = np.asarray(e_above_hull, dtype=np.float64)
    rank = np.where(np.isfinite(energy), energy, np.inf)
    many = np.asarray(num_elements) >= config.min_elements
    table: Table = {}
    for name, short, limit in (("stable", "sun", config.stable), ("metastable", "msun", config.metastable)):
        table[name] = (rank <= limit) & many
        candidates = table[name] & np.asarray(novel, dtype=bool)
        table[short] = representatives(candidates, component, rank)
        table[f"{short}_weight"] = representative_weights(candidates, component)
    return table
