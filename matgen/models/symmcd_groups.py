"""What the network is told of each space group, as buffers looked up by number; made from the priors alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from matgen.data.priors import Priors
from matgen.geometry.lattice import lattice_from_k
from matgen.geometry.orbit_distances import Operations
from matgen.nn.cspnet import NUM_CLASSES, NUM_ROTATIONS

_CENTRINGS = ((0, 3, 3), (3, 0, 3), (3, 3, 0), (3, 3, 3), (4, 2, 2), (2, 4, 4))  # in sixths of a cell edge
_MAX_STANDARD = 6.0  # standardised lattice components beyond it are cut before the lattice is made for distances


@dataclass(frozen=True)
class SiteCodes:
    """The site-symmetry codes of each crystal's space group, padded.

    Args:
        codes: `[B, C, 15]`, a class per axis.
        valid: `[B, C]`, False where padded.
        one_hot: `[B, C, 195]`, the codes one-hot, zero where padded.
    """

    codes: Int[Tensor, "B C 15"]
    valid: Bool[Tensor, "B C"]
    one_hot: Float[Tensor, "B C W"]


class GroupTables(nn.Module):
    """Tables of all space groups, moved with the model and not part of its weights.

    Args:
        priors: of the training set.

    Raises:
        ValueError: the operations hold more than the 64 crystallographic rotations.
    """

    space_group_description: Tensor
    species_prior: Tensor
    site_symmetry_prior: Tensor
    lattice_mask: Tensor
    lattice_fixed: Tensor
    lattice_mean: Tensor
    lattice_std: Tensor
    rotation: Tensor
    translation: Tensor
    rotation_index: Tensor
    num_operations: Tensor
    codes: Tensor
    num_codes: Tensor

    def __init__(self, priors: Priors) -> None:
        super().__init__()
        index = rotation_indices(priors.operations_rotation, priors.num_operations)
        tables = {
            "space_group_description": describe_space_groups(priors, index),
            "species_prior": priors.species_prob,
            "site_symmetry_prior": priors.site_symmetry_prob,
            "lattice_mask": priors.lattice_mask,
            "lattice_fixed": priors.lattice_fixed,
            "lattice_mean": priors.lattice_mean,
            "lattice_std": priors.lattice_std,
            "rotation": priors.operations_rotation,
            "translation": priors.operations_translation,
            "rotation_index": index,
            "num_operations": priors.num_operations,
            "codes": priors.site_symmetry_codes,
            "num_codes": priors.num_codes,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def operations(self, space_group_number: Int[Tensor, "B"]) -> Operations:
        """The groups' operations, padded to the longest list of the batch."""
        counts = self.num_operations[space_group_number]
        longest = int(counts.max())
        return Operations(
            rotation=self.rotation[:, :longest][space_group_number].float(),
            translation=self.translation[:, :longest][space_group_number].float(),
            mask=torch.arange(longest, device=counts.device) < counts[:, None],
            rotation_index=self.rotation_index[:, :longest][space_group_number].long(),
        )

    def site_codes(self, space_group_number: Int[Tensor, "B"]) -> SiteCodes:
        """The codes that the groups' positions can carry, padded to the longest list of the batch."""
        counts = self.num_codes[space_group_number]
        longest = int(counts.max())
        codes = self.codes[:, :longest][space_group_number].long()
        valid = torch.arange(longest, device=counts.device) < counts[:, None]
        one_hot = nn.functional.one_hot(codes, NUM_CLASSES).flatten(-2).float() * valid[..., None]
        return SiteCodes(codes, valid, one_hot)

    def standardise(
        self, lattice_k: Float[Tensor, "B 6"], space_group_number: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 6"]:
        """Lattice components in units of their spread over the crystal system; 0 where the group fixes them."""
        mean, std = self.lattice_mean[space_group_number], self.lattice_std[space_group_number]
        return ((lattice_k - mean) / std) * self.lattice_mask[space_group_number]

    def restore(self, standard: Float[Tensor, "B 6"], space_group_number: Int[Tensor, "B"]) -> Float[Tensor, "B 6"]:
        """The inverse of `standardise`; components that the group fixes have exactly their fixed value."""
        mean, std = self.lattice_mean[space_group_number], self.lattice_std[space_group_number]
        free = self.lattice_mask[space_group_number]
        return torch.where(free, standard * std + mean, self.lattice_fixed[space_group_number])

    def lattice(self, standard: Float[Tensor, "B 6"], space_group_number: Int[Tensor, "B"]) -> Float[Tensor, "B 3 3"]:
        """Rows in Å of the lattice with the given standardised components, for distances between noisy points."""
        return lattice_from_k(self.restore(standard.clamp(-_MAX_STANDARD, _MAX_STANDARD), space_group_number))


def rotation_indices(rotation: Int[Tensor, "G O 3 3"], counts: Int[Tensor, "G"]) -> Int[Tensor, "G O"]:
    """Number each distinct rotation matrix of all groups; padded entries get 0.

    Raises:
        ValueError: there are more than 64.
    """
    powers = 3 ** torch.arange(9)
    key = ((rotation.long() + 1).flatten(-2) * powers).sum(-1)
    real = torch.arange(rotation.shape[1]) < counts[:, None]
    known = torch.unique(key[real])
    if len(known) > NUM_ROTATIONS:
        raise ValueError(f"{len(known)} distinct rotations; crystallographic groups have at most {NUM_ROTATIONS}")
    return (torch.searchsorted(known, key).clamp(max=len(known) - 1) * real).to(torch.int16)


def describe_space_groups(priors: Priors, rotation_index: Int[Tensor, "G O"]) -> Float[Tensor, "G D"]:
    """Numbers that determine a space group: its rotations, a translation with each, its centring, its free lattice.

    Similar groups get similar descriptions, which is what lets rare groups learn from common ones.

    Args:
        priors: with the groups' operations.
        rotation_index: from `rotation_indices`.

    Returns:
        64 presence bits; cosine and sine of 2 pi times the smallest translation with each rotation; 6 bits of
        centring; 6 of lattice components; the logarithm of the number of operations.
    """
    num_groups = len(rotation_index)
    presence = torch.zeros(num_groups, NUM_ROTATIONS)
    waves = torch.zeros(num_groups, NUM_ROTATIONS, 6)
    centring = torch.zeros(num_groups, len(_CENTRINGS))
    for group in range(1, num_groups):
        count = int(priors.num_operations[group])
        rotations, translations = priors.operations_rotation[group, :count], priors.operations_translation[group]
        turns = (translations[:count] * 24).round().long() % 24
        order = sorted(range(count), key=lambda o: (int(rotation_index[group, o]), *turns[o].tolist()), reverse=True)
        index, chosen = rotation_index[group, order].long(), turns[order] * (2 * torch.pi / 24)
        presence[group, index] = 1
        for place, angle in zip(index.tolist(), chosen, strict=True):  # the smallest comes last and stays
            waves[group, place] = torch.cat([angle.cos(), angle.sin()])
        pure = turns[(rotations == torch.eye(3, dtype=rotations.dtype)).flatten(1).all(1)] // 4
        for place, vector in enumerate(_CENTRINGS):
            centring[group, place] = (pure == torch.tensor(vector)).all(1).any().float()
    size = priors.num_operations.clamp(min=1).float().log()[:, None]
    return torch.cat([presence, waves.flatten(1), centring, priors.lattice_mask.float(), size], dim=1)
