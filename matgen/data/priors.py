"""What the training set and the space-group tables say before any network: carried by every checkpoint."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from matgen.data.freedom import axis_permutations, normalizers, polar_masks
from matgen.data.records import Records
from matgen.errors import CheckpointError

NUM_GROUPS = 231  # index 0 is not a group
NUM_SPECIES = 94
NUM_AXES = 15
NUM_CLASSES = 13
_MIN_FAMILY = 16  # crystals of a lattice family below which its lattice statistics borrow from all crystals
_MIN_STD = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class SymmetryTables:
    """The frozen tables of all space groups in their standard setting; index 0 of the first axis is unused.

    Attributes:
        lattice_mask: bool[231, 6], which components of k are free.
        lattice_fixed: float64[231, 6], the value of a component that is not free, else 0.
        operations_rotation: int8[231, 192, 3, 3], W of x' = W x + w on fractional coordinates, centring included.
        operations_translation: float64[231, 192, 3], w.
        num_operations: int16[231].
        site_symmetry_codes: int8[231, C, 15], every code that a position of the group can carry, in any orientation.
        num_codes: int16[231].
    """

    lattice_mask: np.ndarray
    lattice_fixed: np.ndarray
    operations_rotation: np.ndarray
    operations_translation: np.ndarray
    num_operations: np.ndarray
    site_symmetry_codes: np.ndarray
    num_codes: np.ndarray

    @classmethod
    def from_arrays(cls, source: Any) -> "SymmetryTables":
        """Return the tables found in a mapping, or as the attributes of any object, under these names."""
        names = [field.name for field in dataclasses.fields(cls)]
        pick = source.__getitem__ if isinstance(source, Mapping) else lambda name: getattr(source, name)
        return cls(**{name: np.asarray(pick(name)) for name in names})


@dataclass(frozen=True, kw_only=True, eq=False)
class Priors:
    """Tensors indexed by space group number (0 unused); G = 231, O operations, C codes, K normaliser elements.

    Attributes:
        space_group_prob: float32[G], share of each group in training.
        num_orbits_prob: float32[G, Mmax + 1], number of orbits given the group; unseen groups borrow from their family.
        species_prob: float32[94], share of each element among representatives.
        site_symmetry_prob: float32[G, 15, 13], class on each axis; smoothed by the group's own codes, each once in all.
        lattice_mask, lattice_fixed: bool[G, 6], float32[G, 6], see SymmetryTables.
        lattice_mean, lattice_std: float32[G, 6] of the free components over the lattice family; fixed components have
            their fixed value and 1, so (k - mean) / std is 0 there.
        operations_rotation, operations_translation, num_operations: int8[G, O, 3, 3], float32[G, O, 3], int64[G].
        site_symmetry_codes, num_codes: int8[G, C, 15], int64[G].
        axis_permutation: int8[G, O, 15]; under operation o the code moves as new[perm[u]] = old[u].
        polar_mask: bool[G, 3], cell edges along which the origin is free.
        normalizer_rotation, normalizer_translation, num_normalizers: int8[G, K, 3, 3], float32[G, K, 3], int64[G].
        normalizer_permutation: int8[G, K, 15], as axis_permutation.
    """

    file_name: ClassVar[str] = "priors.safetensors"

    space_group_prob: Tensor
    num_orbits_prob: Tensor
    species_prob: Tensor
    site_symmetry_prob: Tensor
    lattice_mask: Tensor
    lattice_fixed: Tensor
    lattice_mean: Tensor
    lattice_std: Tensor
    operations_rotation: Tensor
    operations_translation: Tensor
    num_operations: Tensor
    site_symmetry_codes: Tensor
    num_codes: Tensor
    axis_permutation: Tensor
    polar_mask: Tensor
    normalizer_rotation: Tensor
    normalizer_translation: Tensor
    num_normalizers: Tensor
    normalizer_permutation: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to(self, device: torch.device | str) -> "Priors":
        """Return the same priors on another device."""
        return Priors(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    @property
    def max_orbits(self) -> int:
        """Largest number of orbits that the training set holds."""
        return self.num_orbits_prob.shape[1] - 1

    def save(self, path: Path | str) -> None:
        """Write one safetensors file."""
        Path(path).write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in self.tensors().items()}))

    @classmethod
    def load(cls, path: Path | str) -> "Priors":
        """Read a file written by `save`.

        Raises:
            CheckpointError: if the file is missing, truncated or lacks a tensor.
        """
        try:
            tensors = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not readable as priors ({error})") from error
        names = {field.name for field in dataclasses.fields(cls)}
        if set(tensors) != names:
            missing, unknown = sorted(names - set(tensors)), sorted(set(tensors) - names)
            raise CheckpointError(f"{path}: tensors missing {missing}, unknown {unknown}")
        return cls(**tensors)


def build_priors(records: Records, tables: SymmetryTables) -> Priors:
    """Count the training records and attach the symmetry tables.

    Args:
        records: the training set, at least one crystal.
        tables: frozen tables of all space groups.

    Returns:
        Priors on the CPU.

    Raises:
        ValueError: if there is no crystal.
    """
    if len(records) == 0:
        raise ValueError("priors need at least one training crystal")
    mean, std = _lattice_statistics(records, tables)
    normalizer = normalizers(tables.operations_rotation, tables.operations_translation, tables.num_operations)
    groups = records.space_group_number.astype(np.int64)
    species = np.bincount(records.atomic_numbers.astype(np.int64) - 1, minlength=NUM_SPECIES)
    arrays: dict[str, tuple[np.ndarray, torch.dtype]] = {
        "space_group_prob": (_normalised(np.bincount(groups, minlength=NUM_GROUPS)), torch.float32),
        "num_orbits_prob": (_num_orbits_prob(records, tables), torch.float32),
        "species_prob": (_normalised(species), torch.float32),
        "site_symmetry_prob": (_site_symmetry_prob(records, tables), torch.float32),
        "lattice_mask": (tables.lattice_mask, torch.bool),
        "lattice_fixed": (tables.lattice_fixed, torch.float32),
        "lattice_mean": (mean, torch.float32),
        "lattice_std": (std, torch.float32),
        "operations_rotation": (tables.operations_rotation, torch.int8),
        "operations_translation": (tables.operations_translation, torch.float32),
        "num_operations": (tables.num_operations, torch.int64),
        "site_symmetry_codes": (tables.site_symmetry_codes, torch.int8),
        "num_codes": (tables.num_codes, torch.int64),
        "axis_permutation": (axis_permutations(tables.operations_rotation), torch.int8),
        "polar_mask": (polar_masks(tables.operations_rotation, tables.num_operations), torch.bool),
        "normalizer_rotation": (normalizer.rotation, torch.int8),
        "normalizer_translation": (normalizer.translation, torch.float32),
        "num_normalizers": (normalizer.num_elements, torch.int64),
        "normalizer_permutation": (axis_permutations(normalizer.rotation), torch.int8),
    }
    return Priors(**{name: torch.tensor(array).to(dtype) for name, (array, dtype) in arrays.items()})


def _normalised(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum(axis=-1, keepdims=True)


def _families(tables: SymmetryTables) -> np.ndarray:
    """Return the lattice family of each group: groups with the same free and fixed components of k."""
    keys = np.concatenate([tables.lattice_mask, np.round(tables.lattice_fixed, 9)], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _num_orbits_prob(records: Records, tables: SymmetryTables) -> np.ndarray:
    counts = np.zeros((NUM_GROUPS, int(records.num_orbits.max()) + 1))
    np.add.at(counts, (records.space_group_number.astype(np.int64), records.num_orbits), 1)
    families = _families(tables)
    result = counts.copy()
    for group in np.flatnonzero(counts.sum(1) == 0):
        of_family = counts[families == families[group]].sum(0)
        result[group] = of_family if of_family.any() else counts.sum(0)
    return _normalised(result)


def _site_symmetry_prob(records: Records, tables: SymmetryTables) -> np.ndarray:
    counts = np.zeros((NUM_GROUPS, NUM_AXES, NUM_CLASSES))
    groups = np.repeat(records.space_group_number.astype(np.int64), records.num_orbits)
    np.add.at(counts, (groups[:, None], np.arange(NUM_AXES), records.site_symmetry.astype(np.int64)), 1)
    for group in range(NUM_GROUPS):
        codes = tables.site_symmetry_codes[group, : tables.num_codes[group]].astype(np.int64)
        if len(codes):
            np.add.at(counts[group], (np.arange(NUM_AXES), codes), 1 / len(codes))
        else:
            counts[group, :, 0] += 1
    return _normalised(counts)


def _lattice_statistics(records: Records, tables: SymmetryTables) -> tuple[np.ndarray, np.ndarray]:
    families = _families(tables)
    groups = records.space_group_number.astype(np.int64)
    mask, fixed = tables.lattice_mask.astype(bool), tables.lattice_fixed
    mean, std = np.where(mask, 0.0, fixed), np.ones_like(fixed, dtype=np.float64)
    for family in np.unique(families[1:]):
        rows = np.flatnonzero(families == family)
        free = mask[rows[-1]]
        own = families[groups] == family
        for component in np.flatnonzero(free):
            chosen = own if own.sum() >= _MIN_FAMILY else mask[groups, component]
            values = records.lattice_k[chosen, component] if chosen.any() else records.lattice_k[:, component]
            mean[rows, component] = values.mean()
            std[rows, component] = max(values.std(), _MIN_STD)
    return np.where(mask, mean, fixed), np.where(mask, std, 1.0)
