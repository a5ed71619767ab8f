import numpy as np
import pytest
import torch

from matgen.crystal.tables import SITE_SYMMETRY_AXES, symmetry_tables
from matgen.data.freedom import AXES
from matgen.data.priors import Priors, build_priors
from matgen.data.records import Records
from matgen.errors import CheckpointError


def test_probabilities_are_the_histograms(priors, fake_records):
    groups = fake_records.space_group_number
    assert priors.space_group_prob[225] == pytest.approx((groups == 225).mean(), abs=1e-6)
    assert priors.space_group_prob[0] == 0
    seen = fake_records.num_orbits[groups == 62]
    assert priors.num_orbits_prob[62, 2] == pytest.approx((seen == 2).mean(), abs=1e-6)
    assert priors.species_prob[25] == pytest.approx((fake_records.atomic_numbers == 26).mean(), abs=1e-6)
    for name in ("num_orbits_prob", "site_symmetry_prob"):
        sums = getattr(priors, name)[1:].sum(-1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)


def test_unseen_group_has_orbits_of_its_family_and_its_own_codes(priors, fake_records, tables):
    orthorhombic = (fake_records.space_group_number >= 16) & (fake_records.space_group_number <= 74)
    share = (fake_records.num_orbits[orthorhombic] == 1).mean()
    assert priors.num_orbits_prob[47, 1] == pytest.approx(share, abs=1e-6)
    codes = tables.site_symmetry_codes[47, : tables.num_codes[47]]
    assert priors.site_symmetry_prob[47, 0, 3] == pytest.approx((codes[:, 0] == 3).mean(), abs=1e-6)
    possible = priors.site_symmetry_prob[47] > 0
    assert possible[torch.arange(15), torch.tensor(codes[:, :], dtype=torch.long)].all()


def test_lattice_statistics_standardise_each_family(priors, fake_records):
    groups = torch.tensor(fake_records.space_group_number.astype(np.int64))
    k = torch.tensor(fake_records.lattice_k).float()
    standard = (k - priors.lattice_mean[groups]) / priors.lattice_std[groups]
    assert standard[~priors.lattice_mask[groups]].abs().max() < 1e-6
    cubic = groups >= 195
    assert standard[cubic, 5].mean().abs() < 1e-5 and standard[cubic, 5].std(correction=0) == pytest.approx(1, abs=1e-4)


def test_file_round_trip_and_corruption(priors, tmp_path):
    path = tmp_path / "priors.safetensors"
    priors.save(path)
    loaded = Priors.load(path)
    for name, tensor in priors.tensors().items():
        other = loaded.tensors()[name]
        assert tensor.dtype == other.dtype and torch.equal(tensor, other), name
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"priors\.safetensors"):
        Priors.load(path)


def test_no_records_is_an_error(tables):
    with pytest.raises(ValueError, match="at least one"):
        build_priors(Records.empty(), tables)


# International Tables A, table 15.2.1: index of the group in its Euclidean normaliser, without polar shifts, and with
# the metric of the lattice family.
NORMALIZER_INDEX = {2: 8, 19: 16, 47: 8, 62: 8, 76: 4, 123: 4, 166: 2, 194: 2, 195: 8, 216: 8, 221: 2, 225: 2, 230: 1}


@pytest.mark.parametrize(("group", "index"), NORMALIZER_INDEX.items())
def test_normalizer_has_the_index_of_the_international_tables(priors, group, index):
    assert int(priors.num_normalizers[group]) == index


def test_normalizer_elements_map_every_group_onto_itself(priors):
    for group in range(1, 231):
        operations = int(priors.num_operations[group])
        W = priors.operations_rotation[group, :operations].double()
        w = priors.operations_translation[group, :operations]
        listed = {key(W[o], w[o]) for o in range(operations)}
        for element in range(int(priors.num_normalizers[group])):
            R = priors.normalizer_rotation[group, element].double()
            s = priors.normalizer_translation[group, element].double()
            inverse = torch.linalg.inv(R)
            image = R @ W @ inverse
            shift = (w.double() @ R.T) + s - torch.einsum("oij,j->oi", image, s)
            assert {key(image[o], shift[o]) for o in range(operations)} == listed, (group, element)


def key(rotation: torch.Tensor, translation: torch.Tensor) -> tuple[int, ...]:
    units = (translation.double() * 24).round().long() % 24
    return (*rotation.round().long().flatten().tolist(), *units.tolist())


def test_permuted_codes_are_codes_of_the_group(priors):
    for group in range(1, 231):
        codes = priors.site_symmetry_codes[group, : priors.num_codes[group]].long()
        listed = {tuple(code) for code in codes.tolist()}
        for permutations, count in (
            (priors.axis_permutation[group], priors.num_operations[group]),
            (priors.normalizer_permutation[group], priors.num_normalizers[group]),
        ):
            for permutation in torch.unique(permutations[:count], dim=0).long():
                assert sorted(permutation.tolist()) == list(range(15))
                moved = torch.zeros_like(codes).scatter(1, permutation.expand_as(codes), codes)
                assert {tuple(code) for code in moved.tolist()} <= listed, group


def test_axis_permutation_agrees_with_the_crystal_tables(priors):
    theirs = torch.tensor(symmetry_tables()["axis_permutation"]).long()
    # only codes matter: two permutations may differ on axes that carry nothing
    for group in (1, 14, 62, 166, 194, 216, 227):
        count = int(priors.num_operations[group])
        codes = priors.site_symmetry_codes[group, : priors.num_codes[group]].long()
        for ours, other in zip(priors.axis_permutation[group, :count].long(), theirs[group, :count]):
            moved = torch.zeros_like(codes).scatter(1, ours.expand_as(codes), codes)
            assert torch.equal(moved, torch.zeros_like(codes).scatter(1, other.expand_as(codes), codes))


def test_axes_are_those_of_the_crystal_tables():
    assert [tuple(axis) for axis in AXES.tolist()] == [tuple(axis) for axis in SITE_SYMMETRY_AXES]
