"""CrystalNN and Magpie fingerprints (matminer, an extra), for coverage; cached by the content of the structures."""

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError, SourceError
from matgen.evaluation.archives import write_arrays
from matgen.evaluation.reference_index import content_hash

logger = logging.getLogger(__name__)

STRUCTURE_SIZE = 61
COMPOSITION_SIZE = 132
# What CrystalNN, Voronoi tessellation and order parameters raise on odd geometry (QhullError is a RuntimeError).
_GEOMETRY_ERRORS = (ValueError, RuntimeError, IndexError, KeyError, ZeroDivisionError, TypeError, AttributeError)


@dataclass(frozen=True)
class Fingerprints:
    """structure: float64[n, 61], CrystalNN "ops" averaged over sites. composition: float64[n, 132], Magpie.

    A structure without a fingerprint has a row of NaN; single Magpie entries may be NaN where an element lacks data.
    """

    structure: np.ndarray
    composition: np.ndarray

    def __len__(self) -> int:
        return len(self.structure)

    @property
    def usable(self) -> np.ndarray:
        """bool[n]: both fingerprints exist."""
        return np.isfinite(self.structure).all(1) & ~np.isnan(self.composition).all(1)


@dataclass(frozen=True, kw_only=True)
class FingerprintConfig:
    """orbit_symprec: Å; one site of each symmetry orbit stands for all of it. 0 featurises every site instead.

    An average over equivalent sites does not change by this, and it is several times faster.
    """

    orbit_symprec: float = 1e-3


@lru_cache(maxsize=1)
def _featurizers() -> tuple[Any, Any]:
    try:
        version("matminer")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from matminer.featurizers.composition.composite import ElementProperty
            from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

            return CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")
    except (ImportError, PackageNotFoundError) as error:
        raise MissingDependencyError(
            "coverage needs matminer, which is not installed: pip install 'matgen[fingerprints]'"
        ) from error


def fingerprint_structures(
    structures: Sequence[Structure | None], config: FingerprintConfig | None = None, *, with_structure: bool = True
) -> Fingerprints:
    """Both fingerprints of each structure.

    Args:
        structures: None (failed earlier) gives a row of NaN.
        config: how the sites are averaged.
        with_structure: False leaves the slow structure fingerprints NaN (a scaler needs only compositions).

    Raises:
        MissingDependencyError: matminer is not installed.

    Source: Zimmermann & Jain, RSC Adv. 2020, 10, 6063 (CrystalNN); Ward et al., npj Comput. Mater. 2016 (Magpie).
    """
    site_featurizer, magpie = _featurizers()
    config = config or FingerprintConfig()
    result = Fingerprints(
        np.full((len(structures), STRUCTURE_SIZE), np.nan), np.full((len(structures), COMPOSITION_SIZE), np.nan)
    )
    by_formula: dict[str, np.ndarray] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, structure in enumerate(structures):
            if structure is None:
                continue
            formula = structure.formula
            if formula not in by_formula:
                by_formula[formula] = np.array(magpie.featurize(_composition(formula)), dtype=np.float64)
            result.composition[i] = by_formula[formula]
            if not with_structure:
                continue
            try:
                result.structure[i] = _structure_fingerprint(structure, site_featurizer, config)
            except _GEOMETRY_ERRORS as error:
                logger.info("no CrystalNN fingerprint for row %d (%s): %s", i, formula, error)
    return result


def _composition(formula: str) -> Any:
    from pymatgen.core import Composition

    return Composition(formula)


def _structure_fingerprint(structure: Structure, featurizer: Any, config: FingerprintConfig) -> np.ndarray:
    cell, weights = _primitive_orbits(structure, config.orbit_symprec)
    pymatgen_cell = cell.to_pymatgen()
    rows = [np.array(featurizer.featurize(pymatgen_cell, site)) * weight for site, weight in weights.items()]
    return np.sum(rows, axis=0) / sum(weights.values())


def _primitive_orbits(structure: Structure, symprec: float) -> tuple[Structure, dict[int, int]]:
    """An equivalent primitive cell, and how many of its atoms each orbit's first atom stands for."""
    if symprec <= 0:
        return structure, dict.fromkeys(range(structure.num_atoms), 1)
    from matgen.evaluation.symmetry import symmetry_dataset

    dataset = symmetry_dataset(structure, symprec)
    orbits = dataset.orbits
    if len(dataset.prim_std_cell.numbers) == structure.num_atoms:
        return structure, dict(Counter(orbits))
    # The atoms of the primitive cell are averages over the given ones; all of an orbit map into one orbit there.
    primitive = dataset.prim_std_cell
    cell = Structure(np.array(primitive.basis), np.array(primitive.positions), np.array(primitive.numbers))
    first_site = {orbit: dataset.mapping_std_prim[orbit] for orbit in set(orbits)}
    sizes = Counter(orbits)
    return cell, {site: sizes[orbit] for orbit, site in first_site.items()}


def concat_fingerprints(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Join the fingerprints of several shards, in their order."""
    return Fingerprints(
        np.concatenate([part.structure for part in parts]), np.concatenate([part.composition for part in parts])
    )


def cache_path(folder: Path, structures: Sequence[Structure], config: FingerprintConfig) -> Path:
    """Where the fingerprints of exactly these structures, made by this version of matminer, are kept."""
    try:
        matminer = version("matminer")
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            "coverage needs matminer, which is not installed: pip install 'matgen[fingerprints]'"
        ) from error
    key = content_hash(structures)[:24]
    return folder / f"fingerprints-{key}-matminer-{matminer}-symprec-{config.orbit_symprec:g}.npz"


def save_fingerprints(fingerprints: Fingerprints, path: Path) -> None:
    """Write to an .npz file, aside and then renamed."""
    write_arrays(path, structure=fingerprints.structure, composition=fingerprints.composition)


def load_fingerprints(path: Path) -> Fingerprints:
    """Read what `save_fingerprints` wrote.

    Raises:
        SourceError: the file is missing or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Fingerprints(archive["structure"], archive["composition"])
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{path} holds no fingerprints: {error}") from error
