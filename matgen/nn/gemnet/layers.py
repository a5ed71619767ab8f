"""Dense layers that keep the variance of what passes through."""

import itertools
import math

from jaxtyping import Float
from torch import Tensor, nn

HALF = 1 / math.sqrt(2)


class ScaledSiLU(nn.Module):
    """SiLU over 0.6, so that standard normal input leaves with a second moment of 1."""

    def forward(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Apply the function."""
        return nn.functional.silu(x) * (1 / 0.6)


def linear(in_dim: int, out_dim: int, bias: bool = False) -> nn.Linear:
    """A linear layer with orthogonal weights scaled to unit gain: output variance equals input variance."""
    layer = nn.Linear(in_dim, out_dim, bias=bias)
    nn.init.orthogonal_(layer.weight, gain=math.sqrt(max(1.0, out_dim / in_dim)))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def dense(in_dim: int, out_dim: int) -> nn.Sequential:
    """Linear, then ScaledSiLU."""
    return nn.Sequential(linear(in_dim, out_dim), ScaledSiLU())


class Residual(nn.Module):
    """(x + two dense layers of x) / sqrt(2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(dense(dim, dim), dense(dim, dim))

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Apply the block."""
        return (x + self.layers(x)) * HALF


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


def sum_by(values: Float[Tensor, "E D"], index: Tensor, num: int) -> Float[Tensor, "N D"]:
    """Sum rows that share an index."""
    return values.new_zeros(num, values.shape[1]).index_add(0, index, values)
