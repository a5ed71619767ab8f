"""A rigid part of a framework, detached from any cell: atoms, bonds and the points where its bonds were cut."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from matgen.mof.identity import canonical_smiles, ecfp4, identity_name
from matgen.mof.metals import IS_METAL

__all__ = ["LINKER", "METAL_NODE", "NODE_BRIDGE", "ROLES", "BuildingBlock", "Role"]

Role = Literal["metal_node", "linker", "node_bridge"]
METAL_NODE: Role = "metal_node"
LINKER: Role = "linker"
NODE_BRIDGE: Role = "node_bridge"
ROLES: tuple[Role, ...] = (METAL_NODE, LINKER, NODE_BRIDGE)
"""By the code under which arrays hold them."""


@dataclass(frozen=True, eq=False)
class BuildingBlock:
    """A metal node, linker or node bridge in its own frame.

    atomic_numbers: int [n]. cart_coords: float64 [n, 3] in Å, the origin is the centroid of the connection points.
    bonds: int [b, 2] within the block. connection_points: float64 [c, 3] in Å, midpoints of the cut bonds in the same
    frame. connection_atoms: int [c], the block's own atom of each cut bond. A node bridge is the oxygen, hydroxide or
    halide that joins the metals of a rod.
    """

    atomic_numbers: np.ndarray
    cart_coords: np.ndarray
    bonds: np.ndarray
    connection_points: np.ndarray
    connection_atoms: np.ndarray
    role: Role

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @property
    def num_connections(self) -> int:
        return len(self.connection_atoms)

    @property
    def is_metal(self) -> bool:
        """Whether it is a metal node."""
        return self.role == METAL_NODE

    @property
    def connection_is_metal(self) -> np.ndarray:
        """Whether the connecting atom is a metal, bool [c]."""
        return IS_METAL[self.atomic_numbers[self.connection_atoms]]

    @cached_property
    def diameter(self) -> float:
        """Largest distance in Å among atoms and connection points."""
        points = np.concatenate([self.cart_coords, self.connection_points])
        square = (points**2).sum(axis=1)
        squared = square[:, None] + square - 2.0 * points @ points.T
        return float(np.sqrt(max(squared.max(), 0.0)))

    def rotated(self, rotation: np.ndarray) -> "BuildingBlock":
        """The block turned about its origin.

        Args:
            rotation: [3, 3], applied to rows as x @ rotation.T.

        Returns:
            the same block in the new orientation.
        """
        return replace(
            self,
            cart_coords=self.cart_coords @ rotation.T,
            connection_points=self.connection_points @ rotation.T,
        )

    @cached_property
    def smiles(self) -> str:
        """Canonical SMILES of the bond graph; * is a connection point, ~ a bond of a metal."""
        return canonical_smiles(self.atomic_numbers, self.bonds, self.connection_atoms)

    @cached_property
    def identity(self) -> str:
        """Name of the bond graph with its connection points: equal for all conformers, atom orders and cells."""
        return identity_name(self.role, self.smiles)

    @cached_property
    def ecfp4(self) -> np.ndarray:
        """Packed bits of the circular fingerprint of radius 2, uint8 [512]."""
        return ecfp4(self.atomic_numbers, self.bonds, self.connection_atoms)
