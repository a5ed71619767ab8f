"""Small made-up records that obey the tables: what data and training tests need, without any structure file."""

import numpy as np
import pytest

from matgen.crystal.tables import symmetry_tables
from matgen.data.priors import Priors, SymmetryTables, build_priors
from matgen.data.records import Records


def make_records(tables: SymmetryTables, count: int, seed: int = 0, max_orbits: int = 7) -> Records:
    rng = np.random.default_rng(seed)
    groups = rng.choice([1, 2, 14, 62, 99, 139, 160, 166, 194, 216, 221, 225, 227], size=count)
    num_orbits = np.minimum(rng.geometric(0.35, size=count), max_orbits)
    codes, multiplicity = [], []
    for group, number in zip(groups, num_orbits):
        codes.append(tables.site_symmetry_codes[group, rng.integers(0, tables.num_codes[group], size=number)])
        multiplicity.append(np.full(number, tables.num_operations[group]))
    total = int(num_orbits.sum())
    free = tables.lattice_mask[groups]
    k = np.where(free, rng.normal([0, 0, 0, 0, 0, 2.7], 0.3, (count, 6)), tables.lattice_fixed[groups])
    return Records(
        space_group_number=groups,
        lattice_k=k,
        offsets=np.concatenate([[0], np.cumsum(num_orbits)]),
        frac_coords=rng.random((total, 3)),
        atomic_numbers=rng.integers(1, 95, total),
        site_symmetry=np.concatenate(codes),
        multiplicity=np.concatenate(multiplicity),
        ids=tuple(f"fake-{i}" for i in range(count)),
    )


@pytest.fixture(scope="session")
def tables() -> SymmetryTables:
    return SymmetryTables.from_arrays(symmetry_tables())


@pytest.fixture(scope="session")
def fake_records(tables: SymmetryTables) -> Records:
    return make_records(tables, 60)


@pytest.fixture(scope="session")
def fake_validation(tables: SymmetryTables) -> Records:
    return make_records(tables, 17, seed=1)


@pytest.fixture(scope="session")
def priors(fake_records: Records, tables: SymmetryTables) -> Priors:
    return build_priors(fake_records, tables)
