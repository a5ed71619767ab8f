"""One name for frameworks that are the same net of the same building blocks, whatever their cell, order or geometry."""

import hashlib
from collections import Counter
from functools import reduce
from math import gcd

import numpy as np

from matgen.mof.framework import Framework
from matgen.mof.periodic_graph import find_components

__all__ = ["IDENTITY_PROTOCOL", "framework_identity", "num_nets"]

_ROUNDS = 6
_SHELLS = 6

IDENTITY_PROTOCOL = (
    "same framework = same Weisfeiler-Lehman hash of the periodic graph of building blocks: labels are the blocks' "
    "identities (canonical bond graph with connection points) and coordination sequences to shell 6, edges carry their "
    "number of bonds, 6 rounds; with the number of interpenetrating nets; not MOFid"
)
"""What the report says about novelty and uniqueness."""

_Neighbors = list[list[tuple[int, tuple[int, int, int], int]]]


def framework_identity(framework: Framework) -> str:
    """Name of a framework, equal for all choices of cell, origin, order of blocks and conformers.

    Two frameworks with different names differ; two with one name may in rare cases be different nets that agree in the
    neighbourhood of every block.

    Args:
        framework: at least one block.

    Returns:
        32 hexadecimal digits.

    Source: Shervashidze et al., J. Mach. Learn. Res. 12 (2011) 2539 (the hash); Brunner and Laves 1971 (coordination
        sequences).
    """
    neighbors = _neighbors(framework)
    names = [block.identity for block in framework.blocks]
    labels = [_digest(name, _shells(neighbors, i)) for i, name in enumerate(names)]
    for _ in range(_ROUNDS):
        around = [sorted((labels[j], count) for j, _, count in near) for near in neighbors]
        labels = [_digest(own, near) for own, near in zip(labels, around, strict=True)]
    counts = Counter(labels)
    divisor = reduce(gcd, counts.values())  # a larger cell holds more of each
    return _digest(sorted((label, count // divisor) for label, count in counts.items()), num_nets(framework))


def num_nets(framework: Framework) -> int:
    """Number of separate nets that interpenetrate; layers and chains count once for each that is in the cell."""
    blocks, image, _ = framework.edges()
    parts = find_components(framework.num_blocks, blocks[:, 0], blocks[:, 1], image)
    cycles = parts.offset[blocks[:, 0]] + image - parts.offset[blocks[:, 1]]
    owner = parts.label[blocks[:, 0]]
    return sum(_index(cycles[owner == part]) for part in range(parts.num_components))


def _index(vectors: np.ndarray) -> int:
    """How many translated copies of itself a net leaves room for: the index of its translations in the lattice."""
    rows = [vector for vector in np.unique(vectors, axis=0) if vector.any()]
    index = 1
    for column in range(3):
        while True:
            live = sorted((row for row in rows if row[column]), key=lambda row: abs(int(row[column])))
            if len(live) < 2:
                break
            pivot = live[0]
            rest = [row - (row[column] // pivot[column]) * pivot for row in live[1:]]
            zero = [row for row in rows if not row[column]]
            rows = [row for row in (*zero, pivot, *rest) if row.any()]
        if not live:
            return 1  # a layer or a chain
        index *= abs(int(live[0][column]))
        rows = [row for row in rows if not row[column]]
    return index


def _neighbors(framework: Framework) -> _Neighbors:
    blocks, image, multiplicity = framework.edges()
    near: _Neighbors = [[] for _ in range(framework.num_blocks)]
    for (i, j), (x, y, z), count in zip(blocks.tolist(), image.tolist(), multiplicity.tolist(), strict=True):
        near[i].append((j, (x, y, z), count))
        near[j].append((i, (-x, -y, -z), count))
    return near


def _shells(neighbors: _Neighbors, start: int) -> list[int]:
    """How many blocks are first reached in 1, 2, ... steps."""
    home = (start, (0, 0, 0))
    seen, last, sizes = {home}, [home], []
    for _ in range(_SHELLS):
        found = {
            (j, (x + a, y + b, z + c)) for i, (x, y, z) in last for j, (a, b, c), _ in neighbors[i]
        } - seen  # fmt: skip
        seen |= found
        last = list(found)
        sizes.append(len(found))
    return sizes


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
