"""Scores of block embeddings, against loops and by construction."""

import numpy as np
import pytest
import torch

from matgen.evaluation import block_retrieval
from matgen.evaluation.block_retrieval import (
    EmbeddedBlocks,
    RetrievalConfig,
    nearest,
    retrieved,
    score_embeddings,
    similarity_correlation,
    tanimoto,
    unseen,
)
from matgen.models.block_contrast import tanimoto as torch_tanimoto


def blocks(names: str, seed: int = 0, spread: float = 0.05) -> EmbeddedBlocks:
    """One direction for each letter, the same for every seed, and a little noise."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(128, 8))
    vectors = np.array([directions[ord(name)] for name in names]) + spread * rng.normal(size=(len(names), 8))
    return EmbeddedBlocks(vectors.astype(np.float32), np.array(list(names)))


def prints(names: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    table = rng.integers(0, 256, (128, 16), dtype=np.uint8)
    return np.array([table[ord(name)] for name in names])


def test_nearest_equals_a_loop_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, library = rng.normal(size=(23, 5)), rng.normal(size=(57, 5))
    expected = [
        max(range(57), key=lambda i: q @ library[i] / np.linalg.norm(q) / np.linalg.norm(library[i])) for q in queries
    ]
    monkeypatch.setattr(block_retrieval, "_QUERIES", 4)
    monkeypatch.setattr(block_retrieval, "_LIBRARY", 10)
    assert nearest(queries, library).tolist() == expected


def test_only_blocks_of_known_identity_are_asked_for() -> None:
    library = blocks("aabbccdd", seed=1)
    assert retrieved(blocks("abxyd", seed=2), library).tolist() == [True, True, True]
    mixed = EmbeddedBlocks(library.embedding, np.roll(library.identity, 2))
    assert not retrieved(blocks("abxyd", seed=2), mixed).any()


def test_unseen_identities_once_each() -> None:
    held_out, library = blocks("xaybxz"), blocks("ab")
    rows = unseen(held_out, library, RetrievalConfig())
    assert sorted(held_out.identity[rows]) == ["x", "y", "z"]
    assert len(unseen(held_out, library, RetrievalConfig(max_identities=2))) == 2


def test_tanimoto_equals_the_one_that_is_trained_with() -> None:
    packed = np.concatenate([prints("abcdef"), np.zeros((2, 16), np.uint8)])
    torch.testing.assert_close(
        torch.from_numpy(tanimoto(packed)), torch_tanimoto(torch.from_numpy(packed), torch.from_numpy(packed))
    )


def test_correlation_is_one_where_cosines_follow_and_about_zero_where_they_do_not() -> None:
    names = "ghijklmnopqrstuvw"
    packed = prints(names)
    similarity = tanimoto(packed).astype(np.float64) * 0.5
    values, vectors = np.linalg.eigh(similarity + 0.5 * np.eye(len(names)))
    following = vectors * np.sqrt(values.clip(min=0))  # whose inner products are the similarities
    assert similarity_correlation(following, packed) > 0.999
    assert abs(similarity_correlation(blocks(names).embedding, packed)) < 0.3
    assert np.isnan(similarity_correlation(following[:2], packed[:2]))


def test_figures_have_n_and_say_what_was_not_run() -> None:
    held_out = blocks("abcxyzuvw", seed=3)
    share, correlation = score_embeddings("trained", held_out, prints("abcxyzuvw"), blocks("aabbcc", seed=4))
    assert (share.name, share.value, share.n) == ("trained_retrieved", 1.0, 3)
    assert share.interval is not None and share.interval[0] < 1 and correlation.n == 6
    nothing, too_few = score_embeddings("trained", blocks("xy"), prints("xy"), blocks("ab"))
    assert nothing.status == too_few.status == "not run" and "2 held-out" in too_few.reason
