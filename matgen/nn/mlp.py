"""Small multilayer perceptrons."""

from jaxtyping import Float
from torch import Tensor, nn


class TwoLayer(nn.Module):
    """Linear, SiLU, Linear, SiLU: the perceptron of the paper's edge and node updates.

    Args:
        in_dim: length of the input.
        dim: of the hidden layer and of the output.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(in_dim, dim)
        self.second = nn.Linear(dim, dim)

    def forward(self, features: Float[Tensor, "*N I"]) -> Float[Tensor, "*N D"]:
        """Apply both layers."""
        return nn.functional.silu(self.second(nn.functional.silu(self.first(features))))


class GroupEncoder(nn.Module):
    """Embeds a space group's binary description: two hidden layers with ReLU and layer norm, then a linear map.

    Args:
        in_dim: length of the description.
        hidden: of the two hidden layers.
        dim: of the result.
    """

    def __init__(self, in_dim: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden),
            nn.ReLU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, dim),
        )

    def forward(self, description: Float[Tensor, "B I"]) -> Float[Tensor, "B D"]:
        """Embed one description per crystal."""
        return self.layers(description)
