"""Which net and which blocks a hypothetical framework is made of: drawn at random, kept where they fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.errors import StructureError
from matgen.mof.hypothetical.fit import Locator
from matgen.mof.hypothetical.pormake import load_blocks, load_net
from matgen.mof.metals import IS_METAL

__all__ = ["COMMON_NETS", "Catalogue", "DrawConfig", "Recipe"]

COMMON_NETS = (
    *("pcu", "dia", "nbo", "bcu", "fcu", "acs", "sra", "lvt", "rtl", "tbo", "pto", "the", "scu", "csq", "flu", "ftw"),
    *("soc", "qom", "pyr", "ith", "stp", "bor", "ctn", "pts", "ssa", "ssb", "cds", "srs", "ths", "qtz", "hex", "bnn"),
    *("sod", "nia", "toc", "sqc", "shp", "lon", "fof"),
)
"""Nets that metal-organic frameworks have (RCSR symbols), of 1 to 30 vertices in the primitive cell."""


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """What may be drawn.

    Args:
        nets: RCSR symbols; each is as likely as the others.
        max_atoms: in the primitive cell.
        max_rmsd: of a block's connection points against the directions of its vertex, both of length 1.
        max_tries: combinations that are drawn until one is neither too large nor a misfit.
        linker_share: chance that a linker lies between a metal node and an organic node; two metal nodes always have
            one between them.
    """

    nets: tuple[str, ...] = COMMON_NETS
    max_atoms: int = 1000
    max_rmsd: float = 0.2
    max_tries: int = 200
    linker_share: float = 0.4


@dataclass(frozen=True)
class Recipe:
    """A net, and the block of each type of vertex and (by the types of its ends) of edge; None is a direct bond."""

    net: str
    vertices: Mapping[int, str]
    edges: Mapping[tuple[int, int], str | None]
    rmsd: float

    @property
    def blocks(self) -> str:
        """Names of the blocks in the order of their types, as in N16+E14."""
        return "+".join([*self.vertices.values(), *(name for name in self.edges.values() if name)])


class Catalogue:
    """Blocks by what they can do, and how well each fits a vertex. One for each process.

    Args:
        config: what may be drawn.
    """

    def __init__(self, config: DrawConfig) -> None:
        self.config = config
        self._rmsd: dict[tuple[str, int, str], float] = {}

    @cached_property
    def blocks(self) -> dict[str, Any]:
        """PORMAKE's building blocks by name."""
        return load_blocks()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Atoms of each block without its connection points."""
        return {name: block.n_atoms - block.n_connection_points for name, block in self.blocks.items()}

    @cached_property
    def metal_nodes(self) -> dict[int, list[str]]:
        """Blocks with a metal, by their number of connections, from 3."""
        return self._grouped(metal=True)

    @cached_property
    def organic_nodes(self) -> dict[int, list[str]]:
        """Blocks without a metal, by their number of connections; those of 2 are linkers."""
        return self._grouped(metal=False)

    def _grouped(self, *, metal: bool) -> dict[int, list[str]]:
        groups: dict[int, list[str]] = {}
        for name, block in self.blocks.items():
            numbers = [z for z in block.atoms.numbers.tolist() if z > 0]
            if bool(IS_METAL[numbers].any()) == metal and (metal or "C" in {SYMBOLS[z] for z in numbers}):
                groups.setdefault(block.n_connection_points, []).append(name)
        return groups

    def draw_net(self, rng: np.random.Generator) -> str:
        """One of the nets."""
        return self.config.nets[int(rng.integers(len(self.config.nets)))]

    def draw(self, name: str, rng: np.random.Generator) -> Recipe:
        """Draw blocks until some fit.

        Args:
            name: of the net.
            rng: of this framework.

        Returns:
            What to build.

        Raises:
            StructureError: status no_blocks (the net has a vertex that no block has the connections for), too_large,
                rmsd_too_large (what the last combination was refused for), bad_net.
        """
        net = load_net(name)
        roles = self._roles(net)
        if not roles:
            raise StructureError(f"net {name}: no block has the connections of a vertex", status="no_blocks")
        failure = StructureError(f"net {name}: nothing was tried", status="too_large")
        for _ in range(self.config.max_tries):
            metal = roles[int(rng.integers(len(roles)))]
            vertices, edges = self._blocks_of(net, metal, rng)
            size = self._size(net, vertices, edges)
            if size > self.config.max_atoms:
                reason = f"net {name}: {size} atoms, more than the limit of {self.config.max_atoms}"
                failure = StructureError(reason, status="too_large")
                continue
            rmsd, worst = max((self._misfit(name, net, kind, block), block) for kind, block in vertices.items())
            if rmsd <= self.config.max_rmsd:
                return Recipe(name, vertices, edges, rmsd)
            reason = f"net {name}: {worst} is {rmsd:.2f} off its vertex, more than {self.config.max_rmsd}"
            failure = StructureError(reason, status="rmsd_too_large")
        raise failure

    def _roles(self, net: Any) -> list[tuple[bool, ...]]:
        """Ways to make vertex types metal (True) or organic such that no edge joins two organic ones."""
        kinds, counts = net.unique_node_types.tolist(), [int(count) for count in net.unique_cn]
        edges = [(kinds.index(a), kinds.index(b)) for a, b in net.unique_edge_types.tolist()]
        ways = []
        for metal in product((True, False), repeat=len(kinds)):
            known = all(
                count in (self.metal_nodes if is_metal else self.organic_nodes)
                for count, is_metal in zip(counts, metal, strict=True)
            )
            if known and all(metal[a] or metal[b] for a, b in edges):
                ways.append(metal)
        return ways

    def _blocks_of(
        self, net: Any, metal: Sequence[bool], rng: np.random.Generator
    ) -> tuple[dict[int, str], dict[tuple[int, int], str | None]]:
        kinds, counts = net.unique_node_types.tolist(), [int(count) for count in net.unique_cn]
        vertices = {}
        for kind, count, is_metal in zip(kinds, counts, metal, strict=True):
            choice = (self.metal_nodes if is_metal else self.organic_nodes)[count]
            vertices[kind] = choice[int(rng.integers(len(choice)))]
        linkers, is_metal_kind = self.organic_nodes[2], dict(zip(kinds, metal, strict=True))
        edges: dict[tuple[int, int], str | None] = {}
        for a, b in net.unique_edge_types.tolist():
            linker = linkers[int(rng.integers(len(linkers)))]
            both = is_metal_kind[a] and is_metal_kind[b]
            edges[a, b] = linker if both or rng.random() < self.config.linker_share else None
        return vertices, edges

    def _size(self, net: Any, vertices: Mapping[int, str], edges: Mapping[tuple[int, int], str | None]) -> int:
        size = sum(self.sizes[vertices[int(net.node_types[i])]] for i in net.node_indices)
        ends = [edges[tuple(net.edge_types[i].tolist())] for i in net.edge_indices]
        return size + sum(self.sizes[name] for name in ends if name)

    def _misfit(self, name: str, net: Any, kind: int, block: str) -> float:
        """RMSD of a block, or of its mirror image, on a vertex of this type."""
        key = (name, kind, block)
        if key not in self._rmsd:
            target = net.local_structure(int(np.argmax(net.node_types == kind)))
            either = (self.blocks[block], self.blocks[block].make_chiral_building_block())
            self._rmsd[key] = min(Locator().calculate_rmsd(target, item) for item in either)
        return self._rmsd[key]
