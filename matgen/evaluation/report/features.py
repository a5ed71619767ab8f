"""The distributions that figures show, of the data and of each set of samples."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from matgen.evaluation.report.reading import Population, RunContents, column
from matgen.geometry.lattice import lattice_from_k

NUM_ELEMENTS = 119
AMU_PER_CUBIC_ANGSTROM = 1.66053906892
"""In g/cm^3."""


@dataclass(frozen=True, eq=False)
class Features:
    """Distributions of one set of crystals; a field is empty where its source is missing.

    name: legend. n: crystals. space_groups: numbers, 0 where none was found. groups_are: what they are ("detected",
    "drawn" or "in the data"). element_shares: share of crystals with each Z, [119]. ratios: distance over the sum of
    covalent radii. energies: eV/atom above the hull.
    """

    name: str
    n: int
    space_groups: np.ndarray
    groups_are: str
    num_elements: np.ndarray
    num_orbits: np.ndarray
    density: np.ndarray
    element_shares: np.ndarray
    ratio_raw: np.ndarray
    ratio: np.ndarray
    energies: np.ndarray


def all_features(contents: RunContents) -> tuple[Features | None, list[Features]]:
    """Features of the data (training split, or all of it) and of each set of samples that has structures."""
    data = None if contents.records is None else data_features(contents.records)
    samples = [sample_features(population) for population in contents.populations]
    return data, [features for features in samples if features.n]


def data_features(records: pa.Table) -> Features | None:
    """Features of the records of the training split; of all splits where that is empty; None without any."""
    good = records.filter(pa.compute.equal(records["status"], "ok"))
    train = good.filter(pa.compute.equal(good["split"], "train")) if "split" in good.column_names else good
    good = train if train.num_rows else good
    if not good.num_rows:
        return None
    lattices = lattice_from_k(_fixed(good["lattice_k"], 6))
    name = "training data" if train.num_rows else "data"
    return _features(name, good, "in the data", good["space_group_number"].to_numpy(), "multiplicity", lattices)


def sample_features(population: Population) -> Features:
    """Features of the samples that became structures."""
    table = population.structures
    if table is None or not table.num_rows:
        return _empty(population)
    good = table.filter(pa.compute.equal(table["status"], "ok"))
    detected = column(population.scores, "space_group_detected")
    status = column(population.scores, "status")
    groups, words = good["space_group_number"].to_numpy(), "drawn"
    if detected is not None and status is not None:
        groups, words = detected[status == "ok"].astype(np.int64), "detected"
    if not good.num_rows:
        return _empty(population)
    lattices = _fixed(good["lattice"], 9).reshape(-1, 3, 3)
    energies = column(population.relaxed, "e_above_hull")
    if energies is None:
        energies = column(population.scores, "e_above_hull")
    return _features(population.name, good, words, groups, "multiplicities", lattices, energies)


def _empty(population: Population) -> Features:
    none = np.zeros(0)
    return Features(population.name, 0, none, "", none, none, none, np.zeros(NUM_ELEMENTS), none, none, none)


def _features(
    name: str,
    table: pa.Table,
    groups_are: str,
    groups: np.ndarray,
    multiplicity: str,
    lattices: np.ndarray,
    energies: np.ndarray | None = None,
) -> Features:
    numbers, rows, counts = _ragged(table["atomic_numbers"])
    copies, _, _ = _ragged(table[multiplicity])
    present = np.zeros((table.num_rows, NUM_ELEMENTS), dtype=bool)
    present[rows, numbers] = True
    return Features(
        name=name,
        n=table.num_rows,
        space_groups=groups,
        groups_are=groups_are,
        num_elements=present.sum(1),
        num_orbits=counts,
        density=_densities(np.abs(np.linalg.det(lattices)), numbers, copies, rows),
        element_shares=present.mean(0),
        ratio_raw=_finite(column(table, "raw_min_ratio")),
        ratio=_finite(column(table, "min_ratio")),
        energies=_finite(energies),
    )


def _densities(volumes: np.ndarray, numbers: np.ndarray, copies: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """g/cm^3 of cells (Å^3) from the element, the multiplicity and the row of each orbit."""
    from ase.data import atomic_masses

    masses = np.bincount(rows, weights=atomic_masses[numbers] * copies, minlength=len(volumes))
    return np.asarray(masses * AMU_PER_CUBIC_ANGSTROM / volumes)


def _ragged(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat values, the row of each, and the number of values of each row."""
    array = values.combine_chunks()
    counts = np.asarray(pa.compute.fill_null(pa.compute.list_value_length(array), 0)).astype(np.int64)
    flat = np.asarray(pa.compute.list_flatten(array)).astype(np.int64)
    return flat, np.repeat(np.arange(len(counts)), counts), counts


def _fixed(values: pa.ChunkedArray, width: int) -> np.ndarray:
    return np.asarray(pa.compute.list_flatten(values.combine_chunks()), dtype=np.float64).reshape(-1, width)


def _finite(values: np.ndarray | None) -> np.ndarray:
    if values is None:
        return np.zeros(0)
    values = values.astype(np.float64)
    return values[np.isfinite(values)]
