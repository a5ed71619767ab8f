"""Dense layers that keep the variance of what passes through."""

import itertools
import math
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

HALF = 1 / math.sqrt(2)
SILU_GAIN = 1 / 0.6  # standard normal input leaves a SiLU with a second moment of 0.36


class _ScaledSiLU(torch.autograd.Function):
    """factor * silu(x), scaled in place: on a CPU, one more tensor costs more than the arithmetic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return nn.functional.silu(x).mul_(factor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradients[0], x).mul_(ctx.factor), None


class _Blend(torch.autograd.Function):
    """(skip + SILU_GAIN * silu(x)) * HALF, in the wider precision of both."""

    @staticmethod
    def forward(ctx: Any, skip: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        wide = nn.functional.silu(x).to(torch.promote_types(skip.dtype, x.dtype))
        return wide.mul_(HALF * SILU_GAIN).add_(skip, alpha=HALF)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (x,) = ctx.saved_tensors
        halved = gradients[0] * HALF
        return halved, torch.ops.aten.silu_backward(halved.to(x.dtype), x).mul_(SILU_GAIN)


def scaled_silu(x: Float[Tensor, "N D"], factor: float = SILU_GAIN) -> Float[Tensor, "N D"]:
    """SiLU times a factor; with the default, standard normal input leaves with a second moment of 1."""
    scaled: Tensor = _ScaledSiLU.apply(x, factor)
    return scaled


def blend(skip: Float[Tensor, "N D"], x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """(skip + scaled SiLU of x) / sqrt(2)."""
    mixed: Tensor = _Blend.apply(skip, x)
    return mixed


def linear(in_dim: int, out_dim: int, bias: bool = False) -> nn.Linear:
    """A linear layer with orthogonal weights scaled to unit gain: output variance equals input variance."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.orthogonal_(layer.weight, gain=math.sqrt(max(1.0, out_dim / in_dim)))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Dense(nn.Sequential):
    """Linear, then scaled SiLU."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(linear(in_dim, out_dim))

    def forward(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        """Apply the layer."""
        return scaled_silu(self[0](x))

    def onto(self, skip: Float[Tensor, "N O"], x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        """(skip + the layer of x) / sqrt(2)."""
        return blend(skip, self[0](x))


class Residual(nn.Module):
    """(x + two dense layers of x) / sqrt(2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Dense(dim, dim), Dense(dim, dim))

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Apply the block."""
        outer = self.layers[1]
        assert isinstance(outer, Dense)
        return outer.onto(x, self.layers[0](x))


def residuals(dim: int, count: int) -> nn.Sequential:
    """`count` residual blocks in a row."""
    return nn.Sequential(*[Residual(dim) for _ in range(count)])


class Perceptron(nn.Module):
    """Hidden layers with SiLU, then a linear one.

    Args:
        in_dim: length of the input.
        hidden: of each hidden layer.
        out_dim: of the output.
        num_hidden: hidden layers.
        zero: start at an output of 0.
    """

    def __init__(self, in_dim: int, hidden: int, out_dim: int, num_hidden: int = 1, zero: bool = False) -> None:
        super().__init__()
        sizes = [in_dim] + [hidden] * num_hidden
        hidden_layers = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), nn.SiLU())]
        self.layers = nn.Sequential(*hidden_layers, nn.Linear(sizes[-1], out_dim))
        if zero:
            nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Apply the layers."""
        return self.layers(x)


def rows_of(table: Shaped[Tensor, "N *D"], index: Int[Tensor, "E"]) -> Shaped[Tensor, "E *D"]:
    """table[index]; on a CPU, selecting is several times faster than indexing, forwards and backwards."""
    return table.index_select(0, index)


def sum_by(values: Float[Tensor, "E D"], index: Tensor, num: int) -> Float[Tensor, "N D"]:
    """Sum rows that share an index."""
    return values.new_zeros(num, values.shape[1]).index_add(0, index, values)
