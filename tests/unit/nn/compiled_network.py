"""Compare a compiled network with itself before; run as a process of its own, where shape checks are not traced."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from conftest import GROUP_DIM, make

from matgen.nn.cspnet import CSPNet, tiny_network

torch.manual_seed(0)
net = CSPNet(
    replace(tiny_network(), num_layers=1),
    GROUP_DIM,
    num_species=94,
    absorbing_species=True,
    absorbing_site_symmetry=True,
)
names = list(net.state_dict())
batches = [make(8, [5, 2, 4, 3, 5, 1, 2, 2]), make(9, [7, 1, 2, 2, 1, 3, 1, 1, 4], seed=3)]
before = [net(crystals) for crystals in batches]
net.compile(dynamic=True, backend=sys.argv[1] if len(sys.argv) > 1 else "inductor")
assert list(net.state_dict()) == names
for crystals, expected in zip(batches, before, strict=True):
    found = net(crystals)
    for field in fields(expected):
        one, other = getattr(expected, field.name), getattr(found, field.name)
        real = crystals.mask if one.ndim > 2 else torch.ones(len(one), dtype=torch.bool)
        assert torch.allclose(one[real], other[real], atol=1e-4), field.name
found.coord_score.square().sum().backward()
print("compiled network agrees")
