"""Heads: site symmetry, scores of whole codes, coordinates by attention over operations, repeated species."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from matgen.geometry.orbit_distances import SelfImages


class AxisReadout(nn.Module):
    """Logits per axis and class as inner products of an axis vector and a class vector, both read from the node.

    Args:
        dim: length of the node features.
        num_axes: symmetry axes.
        num_classes: classes per axis.
        rank: length of the vectors whose products are the logits.
    """

    def __init__(self, dim: int, num_axes: int, num_classes: int, rank: int = 8) -> None:
        super().__init__()
        self.shape = (num_axes, num_classes, rank)
        self.axis = nn.Linear(dim, num_axes * rank)
        self.symmetry = nn.Linear(dim, num_classes * rank)

    def forward(self, features: Float[Tensor, "B M D"]) -> Float[Tensor, "B M U V"]:
        """Logits of every class on every axis."""
        num_axes, num_classes, rank = self.shape
        axis = self.axis(features).unflatten(-1, (num_axes, rank))
        symmetry = self.symmetry(features).unflatten(-1, (num_classes, rank))
        return torch.einsum("bmur,bmvr->bmuv", axis, symmetry)


def code_logits(
    axis_logits: Float[Tensor, "B M U V"], codes: Int[Tensor, "B C U"], valid: Bool[Tensor, "B C"]
) -> Float[Tensor, "B M C"]:
    """Score of every site-symmetry code that the space group has: the sum of its axes' logits; -inf where padded.

    Args:
        axis_logits: logits of each class on each axis.
        codes: the group's distinct codes, a class per axis.
        valid: which codes are not padding.
    """
    one_hot = nn.functional.one_hot(codes.long(), axis_logits.shape[-1]).to(axis_logits.dtype)
    scores = torch.bmm(axis_logits.flatten(-2), one_hot.flatten(-2).transpose(1, 2))
    return scores.masked_fill(~valid[:, None], -torch.inf)


class RepeatReadout(nn.Module):
    """Logits of the elements that are already known in the crystal, to be added to those of the species head.

    Whether an orbit repeats an element, and of which orbit, is hard to say in 94 independent logits; without this head
    samples have too many elements. Both parts begin at zero: the network begins as if they were not there.

    Args:
        dim: length of the node features.
        rank: length of the vectors whose products say which orbit is repeated.
    """

    def __init__(self, dim: int, rank: int = 32) -> None:
        super().__init__()
        self.rank = rank
        self.repeat = nn.Linear(dim, 1)
        self.query = nn.Linear(dim, rank, bias=False)
        self.key = nn.Linear(dim, rank, bias=False)
        for weight in (self.repeat.weight, self.repeat.bias, self.query.weight):
            nn.init.zeros_(weight)

    def forward(self, features: Float[Tensor, "B M D"], known: Float[Tensor, "B M S"]) -> Float[Tensor, "B M S"]:
        """One number for any element that is there, and the mean match with the orbits that hold it.

        Args:
            features: of the nodes.
            known: one-hot species of the orbits whose element is known; zero elsewhere.
        """
        count = known.sum(1, keepdim=True)
        match = torch.bmm(self.query(features), self.key(features).transpose(1, 2)).float() / self.rank**0.5
        return self.repeat(features).float() * (count > 0) + torch.bmm(match, known) / count.clamp(min=1)


class OperationReadout(nn.Module):
    """Points a coordinate towards the special position that chosen operations leave fixed.

    The node says which rotations its site ought to have (a gate per rotation). The mean of the displacements
    g x - x over those operations that nearly fix x is then exactly the step onto their common fixed set, which is
    the mean of the clean coordinate; in units of the noise it is what the coordinate head has to predict.

    Args:
        dim: length of the node features.
        num_rotations: crystallographic rotation matrices told apart.
    """

    def __init__(self, dim: int, num_rotations: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, num_rotations)
        self.gain = nn.Linear(dim, 1)
        nn.init.constant_(self.gate.bias, -2.0)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)

    def forward(
        self,
        features: Float[Tensor, "B M D"],
        images: SelfImages,
        rotation_one_hot: Float[Tensor, "B O R"],
        width: Float[Tensor, "B"],
        sigma: Float[Tensor, "B"],
    ) -> Float[Tensor, "B M 3"]:
        """Gated mean displacement in units of the noise, clamped.

        Args:
            features: of the nodes.
            images: own copies of each representative.
            rotation_one_hot: the rotation that each operation carries.
            width: Å, reach of the operations at this noise level.
            sigma: fractional noise level of the coordinates.
        """
        closeness = torch.exp(-0.5 * (images.distance / width[:, None, None]).square()) * images.mask[:, None]
        gates = torch.bmm(torch.sigmoid(self.gate(features).float()), rotation_one_hot.transpose(1, 2))
        weight = gates * closeness
        total = torch.einsum("bmo,bmoc->bmc", weight, images.displacement)
        mean = total / (1 + weight.sum(-1, keepdim=True))
        return self.gain(features).float() * (mean / sigma[:, None, None]).clamp(-4, 4)
