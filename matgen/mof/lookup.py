"""Which blocks of a library stand for sampled embeddings: the nearest ones whose connections can balance.

A sampled block on its own is a poor guide: noise makes copies of a block differ, and sets come out that no framework
has. So blocks near each other are one (`matgen/mof/grouping.py`), and choices take turns between ways of grouping: as
they come, and two ways to sets that could have a centre of inversion, as the blocks of five in six of QMOF's frameworks
could: of each block that is not centred itself there is an even number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from matgen.mof.assembly.inversion import is_centred
from matgen.mof.block_library import BlockLibrary
from matgen.mof.grouping import grouped
from matgen.mof.metals import IS_METAL

__all__ = ["BlockLookup", "Choice", "LookupConfig", "SampledBlocks"]

_NEAREST = 4  # blocks of each kind that are considered
_LOOKED_AT = 24  # among which centred ones are looked for
_ALL = 1e9  # a distance at which all blocks of a role are one
_WIDER = 2.0  # times the spread of the first pass, by which that of each pass exceeds the one before
_MERGED_SHARES = (1.0, 0.8, 0.6, 0.4, 0.0)  # of the merge distance, the first for which connections can balance


@dataclass(frozen=True, kw_only=True)
class LookupConfig:
    """Settings of the block lookup; distances are those of embeddings.

    Args:
        merge_distance: sampled blocks of one role that are nearer than this to each other, on average, are one block.
            In units of the root mean square distance of two blocks of the library. With 0.885 the shipped model's
            samples have 0.46 different blocks a block, as QMOF's frameworks have (0.47); with 0.3 it is 0.88. Some
            blocks that differ are one then, too: of two linkers of QMOF at random one pair in six is nearer than that.
        connection_penalty: by how much a block is further away for each connection more or fewer than sampled.
        max_connections_off: blocks with more connections more or fewer are not considered.
        use_roles: metal nodes are looked up among metal nodes, others among others.
        balance: choose blocks whose metal and linker connections are equally many, at the least total distance.
        inversion: choices of blocks that could have a centre of inversion take turns with others.
        num_tries: choices that are made, the nearest of each way of grouping first and then others near by.
        num_simple: further choices, for what these do not close, in which all blocks of a role are one.
        num_passes: times that both sorts are made; the spread is three times as large the second time, then five times.
        spread: relative spread of the distances by which later choices differ, in the first pass.
    """

    merge_distance: float = 0.885
    connection_penalty: float = 0.5
    max_connections_off: int = 12
    use_roles: bool = True
    balance: bool = True
    inversion: bool = True
    num_tries: int = 8
    num_simple: int = 6
    num_passes: int = 2
    spread: float = 0.3

    def __post_init__(self) -> None:
        far = self.merge_distance >= 0 and self.spread >= 0 and self.connection_penalty >= 0
        if min(self.num_tries, self.num_passes) < 1 or self.num_simple < 0 or not far:
            raise ValueError(
                f"need num_tries, num_passes >= 1, num_simple >= 0, and distances that are not negative: {self}"
            )


@dataclass(frozen=True, eq=False)
class SampledBlocks:
    """The blocks of one sampled framework.

    embedding: float [K, D]. is_metal: bool [K]. num_connections: float [K], not rounded, NaN where unknown.
    """

    embedding: np.ndarray
    is_metal: np.ndarray
    num_connections: np.ndarray


@dataclass(frozen=True, eq=False)
class Choice:
    """Blocks for one sampled framework.

    index: int [K], rows of the library. distance: float [K], of the embeddings. balanced: whether metal and linker
    connections are equally many. tier: 0 for the first choices; a later one is for what the ones before do not close.
    """

    index: np.ndarray
    distance: np.ndarray
    balanced: bool
    tier: int = 0


@dataclass(frozen=True)
class _Way:
    """How sampled blocks are grouped: in pairs first, and groups of an odd size are blocks that are centred."""

    paired: bool
    centred: bool


_PLAIN = (_Way(paired=False, centred=False),)
_SIMPLE = (*_PLAIN, _Way(paired=False, centred=True))
_WAYS = (*_PLAIN, _Way(paired=True, centred=True), _Way(paired=False, centred=True))

_Candidate = tuple[int, float, int, float]  # surplus, cost, block, distance
_Grouped = tuple[list[np.ndarray], list[list[_Candidate]]]  # sampled blocks that are one, and what stands for each


class BlockLookup:
    """A vector index over the embeddings of a library, one tree for each role and balance of connections."""

    def __init__(self, library: BlockLibrary, config: LookupConfig | None = None) -> None:
        """Build the index.

        Args:
            library: with embeddings.
            config: settings.

        Raises:
            ValueError: the library has no embeddings or no blocks.
        """
        if library.embedding is None or library.num_blocks == 0:
            raise ValueError("a lookup needs a library of blocks with embeddings")
        from scipy.spatial import cKDTree

        self.config = config or LookupConfig()
        self.library = library
        self.spacing = float(np.sqrt(2 * np.var(library.embedding, axis=0, dtype=np.float64).sum()))
        self.surplus = connection_surplus(library)
        self.num_connections = library.num_connections
        role = np.asarray(library.is_metal) if self.config.use_roles else np.zeros(library.num_blocks, dtype=bool)
        self.groups: dict[tuple[bool, int, int], tuple[Any, np.ndarray]] = {}
        self._centred: dict[int, bool] = {}
        keys = np.stack([role, self.surplus, self.num_connections], axis=1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)

        for number, (is_metal, surplus, connections) in enumerate(unique.tolist()):
            rows = np.flatnonzero(inverse.ravel() == number)
            tree = cKDTree(np.asarray(library.embedding[rows], dtype=np.float64))
            self.groups[bool(is_metal), surplus, connections] = (tree, rows)

    def choices(self, sampled: SampledBlocks, rng: np.random.Generator) -> Iterator[Choice]:
        """Choose blocks for one framework: `num_tries` times, then `num_simple` times, in each pass; each choice once.

        Args:
            sampled: embeddings and what goes with them.
            rng: for the choices after the first of each way.

        Yields:
            balanced choices; where there is none, the nearest blocks, once. Without `balance` any.
        """
        known: set[bytes] = set()
        nearest: Choice | None = None
        ways: dict[bool, list[_Grouped]] = {}  # of each sort, for all passes
        for tier in range(2 * self.config.num_passes):
            simple = tier % 2 == 1
            count = self.config.num_simple if simple else self.config.num_tries
            if count and simple not in ways:
                ways[simple] = self._ways(sampled, simple)
            for choice in self._tier(ways.get(simple, []), count, rng, tier):
                nearest = nearest or choice
                if (choice.balanced or not self.config.balance) and choice.index.tobytes() not in known:
                    known.add(choice.index.tobytes())
                    yield choice
        if not known and nearest is not None:
            yield nearest

    def _tier(self, ways: Sequence[_Grouped], count: int, rng: np.random.Generator, tier: int) -> Iterator[Choice]:
        """Those of one sort and pass: the nearest of each way, in the first pass, and then others near by."""
        spread = (1 + _WIDER * (tier // 2)) * self.config.spread
        for number in range(count if ways else 0):
            members, tables = ways[number % len(ways)]
            exact = tier < 2 and number < len(ways)
            yield replace(self._choice(members, tables, rng, 0.0 if exact else spread), tier=tier)

    def _ways(self, sampled: SampledBlocks, simple: bool) -> list[_Grouped]:
        """Groups and what stands for them, of each way; simple ones of a role are one, where that can balance."""
        apart = self.config.merge_distance * self.spacing
        distances = [_ALL] if simple else [share * apart for share in _MERGED_SHARES]
        ways: Sequence[_Way] = (_SIMPLE if simple else _WAYS) if self.config.inversion else _PLAIN
        found = [self._groups(sampled, way, distances) for way in ways]
        return [(members, tables) for members, tables, balances in found if balances or not simple]

    def _choice(
        self, members: list[np.ndarray], tables: list[list[_Candidate]], rng: np.random.Generator, spread: float
    ) -> Choice:
        """The cheapest blocks of all groups that balance, or else the cheapest."""
        options = [_best(table, _factors(rng, spread, len(table))) for table in tables]
        picked = _balanced(options, [len(rows) for rows in members]) if self.config.balance else None
        if picked is None:
            picked = [min(option.values(), key=lambda entry: entry[0]) for option in options]
        index = np.zeros(sum(len(rows) for rows in members), dtype=np.int64)
        distance = np.zeros(len(index))
        for rows, (_, block, away) in zip(members, picked, strict=True):
            index[rows], distance[rows] = block, away
        return Choice(index, distance, int(self.surplus[index].sum()) == 0)

    def _groups(
        self, sampled: SampledBlocks, way: _Way, distances: Sequence[float]
    ) -> tuple[list[np.ndarray], list[list[_Candidate]], bool]:
        """Sampled blocks that are one block, what stands for each, and whether that can balance: if not, blocks are one
        that are less far apart."""
        for distance in distances:
            members = grouped(sampled.embedding, sampled.is_metal, distance, way.paired)
            tables = [self._candidates(sampled, rows, way.centred and len(rows) % 2 == 1) for rows in members]
            options = [_best(table, np.ones(len(table))) for table in tables]
            balances = not self.config.balance or _balanced(options, [len(rows) for rows in members]) is not None
            if balances:
                break
        return members, tables, balances

    def _candidates(self, sampled: SampledBlocks, rows: np.ndarray, centred: bool) -> list[_Candidate]:
        """Near blocks of each kind for one group of sampled blocks; centred ones, where some are near."""
        centre = sampled.embedding[rows].mean(axis=0)
        wanted = float(np.mean(sampled.num_connections[rows]))
        is_metal = bool(sampled.is_metal[rows[0]])
        found = []
        for (role, surplus, connections), (tree, members) in self.groups.items():
            off = abs(connections - wanted) if np.isfinite(wanted) else 0.0
            if (self.config.use_roles and role != is_metal) or off > self.config.max_connections_off:
                continue
            near, place = tree.query(centre, k=min(_LOOKED_AT if centred else _NEAREST, len(members)))
            blocks = [(float(away), int(members[at])) for away, at in zip(np.atleast_1d(near), np.atleast_1d(place))]
            if centred:
                blocks = [(away, block) for away, block in blocks if self._is_centred(block)][:_NEAREST]
            found += [(surplus, away + self.config.connection_penalty * off, block, away) for away, block in blocks]
        if not found and centred:
            return self._candidates(sampled, rows, False)
        if not found:
            raise ValueError("the library has no block of a sampled role and number of connections")
        return found

    def _is_centred(self, block: int) -> bool:
        if block not in self._centred:
            self._centred[block] = is_centred(self.library.block(block))
        return self._centred[block]


def connection_surplus(library: BlockLibrary) -> np.ndarray:
    """Connections of each block at metal atoms less those at others, int64 [N]."""
    counts = library.num_connections
    atoms = np.repeat(np.asarray(library.atom_offsets)[:-1], counts) + library.connection_atoms
    sign = np.where(IS_METAL[np.asarray(library.atomic_numbers)[atoms]], 1, -1)
    sums = np.concatenate([[0], np.cumsum(sign)])
    offsets = np.asarray(library.connection_offsets)
    return np.asarray(sums[offsets[1:]] - sums[offsets[:-1]])


def _factors(rng: np.random.Generator, spread: float, count: int) -> np.ndarray:
    return np.asarray(np.exp(spread * rng.standard_normal(count))) if spread else np.ones(count)


def _best(table: list[tuple[int, float, int, float]], factors: np.ndarray) -> dict[int, tuple[float, int, float]]:
    """For each surplus the (cost, block, distance) of the cheapest block, costs times factors."""
    best: dict[int, tuple[float, int, float]] = {}
    for (surplus, cost, block, away), factor in zip(table, factors.tolist(), strict=True):
        entry = (cost * factor, block, away)
        if surplus not in best or entry[0] < best[surplus][0]:
            best[surplus] = entry
    return best


def _balanced(
    options: list[dict[int, tuple[float, int, float]]], sizes: list[int]
) -> list[tuple[float, int, float]] | None:
    """The cheapest option of each group such that the surpluses of all blocks add up to 0 (dynamic programming)."""
    totals: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for option, size in zip(options, sizes, strict=True):
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for total, (cost, path) in totals.items():
            for surplus, (more, _, _) in option.items():
                key, value = total + size * surplus, cost + size * more
                if key not in reached or value < reached[key][0]:
                    reached[key] = (value, (*path, surplus))
        totals = reached
    if 0 not in totals:
        return None
    return [option[surplus] for option, surplus in zip(options, totals[0][1], strict=True)]
