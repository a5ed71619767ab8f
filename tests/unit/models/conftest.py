"""Made-up crystals over a few space groups with the real symmetry tables, and their priors."""

import numpy as np
import pytest

from matgen.crystal.tables import symmetry_tables
from matgen.data.priors import Priors, SymmetryTables, build_priors
from matgen.data.records import Records

GROUPS = (1, 2, 14, 62, 129, 166, 194, 221, 225, 227)


@pytest.fixture(scope="session")
def tables() -> SymmetryTables:
    return SymmetryTables.from_arrays(symmetry_tables())


@pytest.fixture(scope="session")
def records(tables) -> Records:
    rng = np.random.default_rng(0)
    num_crystals = 64
    groups = rng.choice(GROUPS, num_crystals)
    num_orbits = rng.integers(1, 6, num_crystals)
    offsets = np.concatenate([[0], num_orbits.cumsum()])
    codes = [
        tables.site_symmetry_codes[group, rng.integers(tables.num_codes[group])]
        for group in np.repeat(groups, num_orbits)
    ]
    free = rng.normal(np.array([0, 0, 0, 0, 0, 2.7]), 0.1, (num_crystals, 6))
    return Records(
        space_group_number=groups.astype(np.int16),
        lattice_k=np.where(tables.lattice_mask[groups], free, tables.lattice_fixed[groups]),
        offsets=offsets.astype(np.int64),
        frac_coords=rng.random((offsets[-1], 3)),
        atomic_numbers=rng.integers(1, 95, offsets[-1]).astype(np.int16),
        site_symmetry=np.stack(codes).astype(np.int8),
        multiplicity=np.ones(offsets[-1], np.int16),
        ids=tuple(str(i) for i in range(num_crystals)),
    )


@pytest.fixture(scope="session")
def priors(records, tables) -> Priors:
    return build_priors(records, tables)
