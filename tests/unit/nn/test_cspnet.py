"""The network: both forms agree, order and padding do not matter, every weight learns, the paper's size."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from matgen.nn.cspnet import CSPNet, CSPNetConfig, NoisyCrystals, Prediction, paper_network, tiny_network
from matgen.nn.edge import PairInputs
from matgen.nn.features import point_features

GROUP_DIM = 20


def network(config: CSPNetConfig, seed: int = 0) -> CSPNet:
    torch.manual_seed(seed)
    net = CSPNet(config, GROUP_DIM, num_species=94, absorbing_species=True, absorbing_site_symmetry=True)
    for name, parameter in net.named_parameters():  # modulations start at zero and would hide what they do
        if "modulation" in name or "gain" in name or "repeat_head" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def outputs(prediction: Prediction) -> list[torch.Tensor]:
    return [getattr(prediction, field.name) for field in fields(prediction)]


SMALL_PAPER = replace(paper_network(), hidden=64, num_layers=3, latent=32)


@pytest.mark.parametrize(
    "config", [tiny_network(), CSPNetConfig(num_layers=2), SMALL_PAPER], ids=["tiny", "default", "paper"]
)
def test_fast_form_equals_the_plain_formula(config, noisy):
    fast = network(config)
    plain = network(replace(config, form="plain"))
    plain.load_state_dict(fast.state_dict())
    crystals = noisy(3, [5, 3, 4])
    for ours, reference in zip(outputs(fast(crystals)), outputs(plain(crystals)), strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)


def test_repeated_elements_are_favoured_by_their_own_number_only(noisy):
    """The head adds to elements that an orbit of the same crystal is known to have, and to nothing else."""
    config = replace(tiny_network(), num_layers=1)
    net = network(config)
    crystals = noisy(2, [4, 2])
    species = torch.tensor([[7, 94, 30, 7], [94, 94, 50, 50]])  # 94: not known; the last two are padding
    crystals = replace(crystals, species_index=species)
    with_head = net(crystals).species_logits
    head, net.repeat_head = net.repeat_head, None
    added = with_head - net(crystals).species_logits
    net.repeat_head = head
    changed = added.abs().amax(1) > 1e-7
    assert changed[0].nonzero().flatten().tolist() == [7, 30]
    assert not changed[1].any()


def test_plain_edge_layer_is_the_written_formula(noisy):
    """Message by message, with the displacement's Fourier features from the displacement itself."""
    config = replace(SMALL_PAPER, num_layers=1, layer_norm=False)
    net = network(config)
    crystals = noisy(1, [3])
    edge = net.layers[0].edge
    nodes = torch.randn(1, 3, config.hidden)
    shift = (crystals.frac_coords[:, None] - crystals.frac_coords[:, :, None]).double()[0]  # [i, j] = x_j - x_i
    angle = 2 * torch.pi * shift[..., None] * torch.arange(128)
    psi = torch.cat([angle.sin().flatten(-2), angle.cos().flatten(-2)], dim=-1).float()
    receiver, sender = edge.nodes.chunk(2)
    weight = torch.cat([receiver, sender, edge.lattice, edge.pair], dim=1)
    expected = torch.zeros(3, config.hidden)
    for i in range(3):
        for j in range(3):
            row = torch.cat([nodes[0, i], nodes[0, j], crystals.lattice_k[0], psi[i, j]])
            hidden = torch.nn.functional.silu(weight @ row + edge.bias)
            expected[i] += torch.nn.functional.silu(edge.second(hidden)) / 3
    layout = net._layout(crystals)
    pairs = PairInputs(layout, crystals.lattice_k, point_features(crystals, layout, net.features).pair)
    assert torch.allclose(edge(nodes[0], pairs), expected, atol=1e-5)


def reordered(crystals: NoisyCrystals, order: torch.Tensor) -> NoisyCrystals:
    return replace(
        crystals,
        frac_coords=crystals.frac_coords[:, order],
        species_index=crystals.species_index[:, order],
        site_symmetry=crystals.site_symmetry[:, order],
    )


@pytest.mark.parametrize("config", [tiny_network(), SMALL_PAPER], ids=["tiny", "paper"])
def test_order_of_orbits_does_not_matter(config, noisy):
    net, crystals = network(config), noisy(2, [5, 5])
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, moved = outputs(net(crystals)), outputs(net(reordered(crystals, order)))
    assert torch.allclose(plain[0], moved[0], atol=1e-5)
    for before, after in zip(plain[1:], moved[1:], strict=True):
        assert torch.allclose(before[:, order], after, atol=1e-5)


@pytest.mark.parametrize("config", [tiny_network(), SMALL_PAPER], ids=["tiny", "paper"])
def test_what_stands_in_padding_does_not_matter(config, noisy):
    net, crystals = network(config), noisy(3, [2, 5, 3])
    other = noisy(3, [2, 5, 3], seed=9)
    padding = ~crystals.mask
    changed = replace(
        crystals,
        frac_coords=torch.where(padding[..., None], other.frac_coords, crystals.frac_coords),
        species_index=torch.where(padding, other.species_index, crystals.species_index),
        site_symmetry=torch.where(padding[..., None], other.site_symmetry, crystals.site_symmetry),
    )
    for before, after in zip(outputs(net(crystals)), outputs(net(changed)), strict=True):
        real = crystals.mask if before.ndim > 2 else torch.ones(3, dtype=torch.bool)
        assert torch.allclose(before[real], after[real], atol=1e-5)


@pytest.mark.parametrize("config", [tiny_network(), SMALL_PAPER], ids=["tiny", "paper"])
def test_every_weight_gets_a_finite_gradient(config, noisy):
    net = network(config)
    sum(values.square().sum() for values in outputs(net(noisy(4, [1, 5, 3, 2])))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("config", [tiny_network(), SMALL_PAPER], ids=["tiny", "paper"])
def test_removing_padding_changes_nothing(config, noisy):
    exact, padded = network(config), network(replace(config, remove_padding=False))
    crystals = noisy(6, [2, 5, 3, 5, 1, 3])
    operations = replace(crystals.operations, mask=crystals.operations.mask.clone())
    operations.mask[1, 4:] = False
    crystals = replace(crystals, operations=operations)
    for one, other in zip(outputs(exact(crystals)), outputs(padded(crystals)), strict=True):
        real = crystals.mask if one.ndim > 2 else torch.ones(6, dtype=torch.bool)
        assert torch.allclose(one[real], other[real], atol=1e-5)


def test_paper_network_has_the_papers_size():
    with torch.device("meta"):
        net = CSPNet(paper_network(), 461, num_species=94, absorbing_species=False, absorbing_site_symmetry=False)
    assert 59e6 < sum(parameter.numel() for parameter in net.parameters()) < 62e6


def test_bfloat16_autocast_stays_near(noisy):
    net, crystals = network(tiny_network()), noisy(3, [2, 4, 3])
    exact = outputs(net(crystals))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = outputs(net(crystals))
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert torch.allclose(one, other, atol=0.1 * one.abs().max().item())
    sum(values.square().sum() for values in rounded).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


@pytest.mark.slow
def test_compiled_network_agrees():
    """In a process of its own, where the shape checks of the other tests are not traced."""
    script = Path(__file__).with_name("compiled_network.py")
    done = subprocess.run([sys.executable, script, "aot_eager"], capture_output=True, text=True, check=False)
    assert "compiled network agrees" in done.stdout, done.stderr
