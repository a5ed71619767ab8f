"""How well block embeddings know identity and similarity: nearest neighbours, and cosines against fingerprints."""

from dataclasses import dataclass, field

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.metric import Metric, MetricGroup

_QUERIES, _LIBRARY = 512, 65_536  # rows that are compared at a time
_GROUP = "block embeddings"


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Settings of `score_embeddings`.

    Args:
        max_identities: held-out identities whose pairs are correlated, drawn at random where there are more.
        seed: of that draw.
        bootstrap: of the interval of the share.
    """

    max_identities: int = 1500
    seed: int = 0
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)


@dataclass(frozen=True, eq=False)
class EmbeddedBlocks:
    """Blocks with their embeddings.

    Attributes:
        embedding: float32[N, D].
        identity: [N] text, equal for blocks of one canonical bond graph.
    """

    embedding: np.ndarray
    identity: np.ndarray

    def __len__(self) -> int:
        return len(self.identity)


def nearest(queries: np.ndarray, library: np.ndarray) -> np.ndarray:
    """Row of the library with the largest cosine to each query, int64[Q].

    Args:
        queries: float[Q, D].
        library: float[N, D], N at least 1.
    """
    place, best = np.zeros(len(queries), dtype=np.int64), np.full(len(queries), -np.inf, dtype=np.float32)
    for first in range(0, len(library), _LIBRARY):
        part = _unit(library[first : first + _LIBRARY])
        for start in range(0, len(queries), _QUERIES):
            rows = slice(start, start + _QUERIES)
            cosines = _unit(queries[rows]) @ part.T
            found = cosines.argmax(1)
            highest = cosines[np.arange(len(found)), found]
            better = highest > best[rows]
            place[rows] = np.where(better, found + first, place[rows])
            best[rows] = np.where(better, highest, best[rows])
    return place


def retrieved(held_out: EmbeddedBlocks, library: EmbeddedBlocks) -> np.ndarray:
    """Whether the nearest block of the library has the same identity, for each held-out block whose identity it has.

    Args:
        held_out: blocks of frameworks that the library knows nothing of.
        library: of the training set.

    Returns:
        bool[M], the held-out blocks of known identity in their order.
    """
    known = np.isin(held_out.identity, library.identity)
    found = nearest(held_out.embedding[known], library.embedding)
    return np.asarray(library.identity[found] == held_out.identity[known])


def unseen(held_out: EmbeddedBlocks, library: EmbeddedBlocks, config: RetrievalConfig) -> np.ndarray:
    """Rows of one block of each identity that the library does not have, at most `max_identities`; int64[M].

    Args:
        held_out: blocks.
        library: of the training set.
        config: how many.
    """
    names, first = np.unique(held_out.identity, return_index=True)
    rows = first[~np.isin(names, library.identity)]
    if len(rows) > config.max_identities:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, config.max_identities, replace=False))
    return np.asarray(rows)


def similarity_correlation(embedding: np.ndarray, ecfp4: np.ndarray) -> float:
    """Spearman correlation of cosine and Tanimoto similarity over all pairs of blocks; NaN where there are too few.

    Args:
        embedding: float[N, D].
        ecfp4: uint8[N, bits / 8], packed.
    """
    from scipy.stats import spearmanr

    if len(embedding) < 3:
        return float("nan")
    pairs = np.triu_indices(len(embedding), 1)
    unit = _unit(embedding)
    return float(spearmanr((unit @ unit.T)[pairs], tanimoto(ecfp4)[pairs]).statistic)


def tanimoto(ecfp4: np.ndarray) -> np.ndarray:
    """Tanimoto similarity of all pairs of packed fingerprints, float32[N, N]; two empty ones are equal.

    Args:
        ecfp4: uint8[N, bits / 8].
    """
    bits = np.unpackbits(ecfp4, axis=1).astype(np.float32)
    common, counts = bits @ bits.T, bits.sum(1)
    either = counts[:, None] + counts - common
    return np.where(either > 0, common / np.maximum(either, 1), 1).astype(np.float32)


def score_embeddings(
    name: str,
    held_out: EmbeddedBlocks,
    ecfp4: np.ndarray,
    library: EmbeddedBlocks,
    config: RetrievalConfig | None = None,
) -> tuple[Metric, ...]:
    """Score the embeddings of one network.

    Args:
        name: of the network, "trained" or "untrained".
        held_out: blocks of frameworks outside the training set.
        ecfp4: uint8[N, bits / 8], packed fingerprints of the held-out blocks.
        library: blocks of the training set, embedded by the same network.
        config: settings.

    Returns:
        The share of held-out blocks found again, and the correlation.
    """
    config = config or RetrievalConfig()
    group = MetricGroup(_GROUP, config.bootstrap)
    flags = retrieved(held_out, library) if len(library) else np.zeros(0, dtype=bool)
    protocol = (
        f"held-out blocks whose identity occurs among the {len(library)} blocks of the training set, which were cut "
        "from other frameworks: the largest cosine is of the same identity"
    )
    share = group.share(f"{name}_retrieved", f"held-out blocks found again, {name} network", flags, protocol)
    different = unseen(held_out, library, config)
    correlation = similarity_correlation(held_out.embedding[different], ecfp4[different])
    words = f"{name}_spearman", f"cosine against Tanimoto of ECFP4, {name} network", ""
    protocol = "Spearman correlation over all pairs of one block each of held-out identities not in the training set"
    if not np.isfinite(correlation):
        return share, group.not_run(*words, protocol, f"{len(different)} held-out identities are too few or all alike")
    return share, group.value(*words, correlation, None, len(different), protocol, better="higher")


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
