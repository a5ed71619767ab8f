"""Every description that augmentation gives is one of the same crystal: by expansion, by decode, and by pymatgen."""

import numpy as np
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure as PymatgenStructure

from matgen.crystal.site_symmetry import code_of_operations
from matgen.data.augment import AugmentConfig, augment
from matgen.data.batch import Batch, collate
from matgen.data.records import Records
from matgen.diffusion.noise import CounterNoise
from matgen.geometry.lattice import lattice_from_k
from matgen.representations.asymmetric_unit import AsymmetricUnit, encode_many
from matgen.representations.decode import decode
from matgen.sources.prototypes import open_prototypes


@pytest.fixture(scope="module")
def units() -> list[AsymmetricUnit]:
    rows = list(open_prototypes().read(0, 288))[::5]
    encoded = encode_many([row.structure for row in rows if row.structure is not None])
    kept = [unit for unit in encoded if isinstance(unit, AsymmetricUnit) and unit.num_atoms <= 60]
    assert len(kept) > 40 and len({unit.space_group_number for unit in kept}) > 25
    return kept


@pytest.fixture(scope="module")
def records(units) -> Records:
    return Records.from_units(units, [str(index) for index in range(len(units))])


ALL = ("representative", "origin", "normalizer")


def draw(batch: Batch, priors, seed: int, **switches: bool) -> Batch:
    noise = CounterNoise(torch.arange(len(batch)) + 1000 * seed)
    config = AugmentConfig(**{**dict.fromkeys(ALL, False), **switches})
    return augment(batch, priors, lambda purpose, shape: noise.uniform(0, purpose, shape), config)


def expand(batch: Batch, row: int, priors) -> tuple[PymatgenStructure, list[int], list[np.ndarray]]:
    """All atoms by the operations alone, their number in each orbit, and the stabiliser's rotations."""
    group, count = int(batch.space_group_number[row]), int(batch.num_orbits[row])
    size = int(priors.num_operations[group])
    W = priors.operations_rotation[group, :size].numpy().astype(float)
    w = priors.operations_translation[group, :size].numpy()
    species, coords, sizes, stabilisers = [], [], [], []
    for orbit in range(count):
        x = batch.frac_coords[row, orbit].double().numpy()
        images = W @ x + w
        stabilisers.append(W[np.abs((images - x) - np.rint(images - x)).max(1) < 2e-4])
        distinct: list[np.ndarray] = []
        for image in images:
            if all(np.abs((image - other) - np.rint(image - other)).max() > 2e-4 for other in distinct):
                distinct.append(image)
        sizes.append(len(distinct))
        coords += distinct
        species += [int(batch.species_index[row, orbit]) + 1] * len(distinct)
    lattice = lattice_from_k(batch.lattice_k[row].double().numpy())
    return PymatgenStructure(lattice, species, np.array(coords)), sizes, stabilisers


@pytest.mark.parametrize("switch", ["representative", "origin", "normalizer", "all"])
def test_same_crystal_with_the_right_codes(units, records, priors, switch):
    switches = dict.fromkeys(ALL, True) if switch == "all" else {switch: True}
    batch = collate(records, range(len(records)))
    new = draw(batch, priors, 1, **switches)
    changed = 0
    matcher = StructureMatcher()
    for row, unit in enumerate(units):
        structure, sizes, stabilisers = expand(new, row, priors)
        assert sizes == unit.multiplicity.tolist()
        for orbit, rotations in enumerate(stabilisers):
            assert code_of_operations(rotations).tolist() == new.site_symmetry[row, orbit].tolist(), (row, orbit)
        changed += not torch.allclose(new.frac_coords[row], batch.frac_coords[row], atol=1e-4)
        # the other tests of a crystal hold for each switch, the matcher is slow
        if switch == "all" or row % 4 == 0:
            assert matcher.fit(structure, expand(batch, row, priors)[0]), (row, unit.space_group_number)
    assert changed > (3 if switch == "origin" else len(units) / 3)
    assert not new.frac_coords[~new.mask].any() and (new.frac_coords < 1).all() and (new.frac_coords >= 0).all()


def test_decode_of_augmented_is_the_same_crystal(units, records, priors):
    batch = collate(records, range(len(records)))
    new = draw(batch, priors, 2, representative=True, origin=True, normalizer=True)
    moved = []
    for row, unit in enumerate(units):
        own = slice(0, unit.num_orbits)
        moved.append(
            AsymmetricUnit(
                space_group_number=unit.space_group_number,
                lattice_k=unit.lattice_k,
                frac_coords=new.frac_coords[row, own].double().numpy(),
                atomic_numbers=unit.atomic_numbers,
                site_symmetry=new.site_symmetry[row, own].numpy().astype(np.int8),
                multiplicity=unit.multiplicity,
            )
        )
    matcher = StructureMatcher()
    for unit, before, after in zip(units, decode(units), decode(moved)):
        assert after.multiplicities.tolist() == unit.multiplicity.tolist()
        assert after.code_distance.max() == 0
        assert before.structure is not None and after.structure is not None
        assert matcher.fit(before.structure.to_pymatgen(), after.structure.to_pymatgen())


def test_draws_differ_between_seeds_and_are_repeatable(records, priors):
    batch = collate(records, range(len(records)))
    first, again, other = (draw(batch, priors, seed, representative=True) for seed in (3, 3, 4))
    assert torch.equal(first.frac_coords, again.frac_coords)
    assert not torch.equal(first.frac_coords, other.frac_coords)


def test_switched_off_it_changes_nothing(records, priors):
    batch = collate(records, range(len(records)))
    same = draw(batch, priors, 1)
    assert torch.equal(same.frac_coords, batch.frac_coords) and torch.equal(same.site_symmetry, batch.site_symmetry)


def test_every_operation_and_shift_is_drawn(records, priors):
    group_of = records.space_group_number
    row = int(np.flatnonzero((group_of == 227) & (records.multiplicity[records.offsets[:-1]] <= 32))[0])
    batch = collate(records, [row] * 2000)
    new = draw(batch, priors, 5, representative=True)
    places = torch.unique((new.frac_coords[:, 0] * 24).round() % 24, dim=0)
    assert len(places) == records.multiplicity[records.offsets[row]]
