"""What the network is told of space groups determines them, and lattices go there and back."""

import torch

from matgen.geometry.lattice import lattice_from_k
from matgen.models.symmcd_groups import GroupTables


def test_descriptions_differ_between_all_groups(priors):
    described = GroupTables(priors).space_group_description[1:]
    assert len(torch.unique(described, dim=0)) == 230


def test_lattices_go_there_and_back(priors, records):
    tables = GroupTables(priors)
    groups = torch.from_numpy(records.space_group_number.astype("int64"))
    lattice_k = torch.from_numpy(records.lattice_k).float()
    standard = tables.standardise(lattice_k, groups)
    assert (standard[~priors.lattice_mask[groups]] == 0).all()
    assert torch.allclose(tables.restore(standard, groups), lattice_k, atol=1e-5)
    assert torch.allclose(tables.lattice(standard, groups), lattice_from_k(lattice_k), atol=1e-3)


def test_operations_are_those_of_the_group(priors):
    operations = GroupTables(priors).operations(torch.tensor([2, 225]))
    assert operations.mask.sum(1).tolist() == [2, 192]
    assert operations.is_identity.sum(1).tolist() == [1, 1]
    inversion = -torch.eye(3)
    assert (operations.rotation[0, :2] == inversion).flatten(1).all(1).any()
    used = operations.rotation_index[1]
    assert len(torch.unique(used)) == 48  # the same rotation has the same number with every centring
