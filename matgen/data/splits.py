"""Deterministic splits: a structure keeps its part when the data set grows."""

import hashlib
from collections.abc import Sequence

PARTS = ("train", "val", "test")


def assign_splits(
    keys: Sequence[str], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> list[str]:
    """Assign each key to a part by its hash.

    Args:
        keys: what must stay together, such as an id, or a reduced formula to keep one composition in one part.
        fractions: expected shares of train, val and test, adding up to 1.
        seed: of the hash.

    Returns:
        One of "train", "val", "test" for each key; equal keys have equal parts.

    Raises:
        ValueError: if the fractions are negative or do not add up to 1.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be at least 0 and add up to 1, they are {fractions}")
    return [_part(key, fractions, seed) for key in keys]


def _part(key: str, fractions: tuple[float, float, float], seed: int) -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=str(seed).encode()).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < fractions[0]:
        return "train"
    return "val" if place < fractions[0] + fractions[1] else "test"
