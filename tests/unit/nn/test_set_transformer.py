"""Transformer layers over sets: order, padding and other sets change nothing; attention is what torch computes."""

import pytest
import torch

from matgen.nn.set_transformer import SetLayer, Sets

SIZES = torch.tensor([3, 1, 5])


def layer_of(pair_dim: int) -> SetLayer:
    torch.manual_seed(0)
    layer = SetLayer(16, 4, 6, pair_dim).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def inputs(sizes: torch.Tensor, pair_dim: int) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, Sets]:
    rng = torch.Generator().manual_seed(1)
    sets = Sets.of(torch.arange(len(sizes)).repeat_interleave(sizes), sizes)
    h = torch.randn(len(sets.index), 16, generator=rng, dtype=torch.float64)
    condition = torch.randn(len(sizes), 6, generator=rng, dtype=torch.float64)
    p = torch.randn(sets.pairs.shape[1], pair_dim, generator=rng, dtype=torch.float64) if pair_dim else None
    return h, p, condition, sets


def test_pairs_are_all_ordered_pairs_within_a_set():
    sets = Sets.of(torch.arange(3).repeat_interleave(SIZES), SIZES)
    expected = [(i, j) for i in range(9) for j in range(9) if sets.index[i] == sets.index[j]]
    assert list(zip(*sets.pairs.tolist(), strict=True)) == expected


@pytest.mark.parametrize("pair_dim", [0, 8])
def test_a_set_does_not_see_others_nor_its_own_order(pair_dim):
    layer = layer_of(pair_dim)
    h, p, condition, sets = inputs(SIZES, pair_dim)
    whole_h, whole_p = layer(h, p, condition, sets)
    order = torch.tensor([4, 2, 0, 3, 1])
    alone = Sets.of(torch.zeros(5, dtype=torch.int64), torch.tensor([5]))
    part = None
    if p is not None:
        square = p[sets.index[sets.pairs[0]] == 2].view(5, 5, -1)
        part = square[order][:, order].flatten(0, 1)
    own_h, own_p = layer(h[4:][order], part, condition[2:], alone)
    torch.testing.assert_close(own_h, whole_h[4:][order])
    if whole_p is not None:
        square = whole_p[sets.index[sets.pairs[0]] == 2].view(5, 5, -1)
        torch.testing.assert_close(own_p, square[order][:, order].flatten(0, 1))


def test_attention_with_biases_is_that_of_torch():
    layer = layer_of(8)
    assert layer.pair is not None
    torch.nn.init.zeros_(layer.pair.gather.weight)
    torch.nn.init.zeros_(layer.pair.gather.bias)
    h, p, _, sets = inputs(torch.tensor([5]), 8)
    q, k, v = layer.qkv(h).view(5, 3, 4, 4).permute(1, 2, 0, 3)
    bias = layer.pair.bias(p).view(5, 5, 4).permute(2, 0, 1)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(layer._attend(h, p, sets), layer.join(expected.transpose(0, 1).flatten(1)))


def test_gradients_are_finite_where_sets_differ_in_size():
    layer = layer_of(8)
    h, p, condition, sets = inputs(SIZES, 8)
    out_h, out_p = layer(h.requires_grad_(), p, condition, sets)
    (out_h.square().sum() + out_p.square().sum()).backward()
    assert torch.isfinite(h.grad).all() and all(torch.isfinite(q.grad).all() for q in layer.parameters())
