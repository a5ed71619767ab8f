"""The stage score_blocks: what the block encoder knows of blocks from frameworks outside its training set."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cluster.lineage import finish_stage, require_stage, write_text
from cluster.mof_embed import embeddings
from cluster.run import MofRun
from matgen.data.mof_records import BlockRecords
from matgen.errors import StageError
from matgen.evaluation.block_retrieval import EmbeddedBlocks, RetrievalConfig, score_embeddings
from matgen.evaluation.metric import Metric
from matgen.models.block_encoder import BlockEncoder, BlockEncoderConfig

logger = logging.getLogger(__name__)

HELD_OUT = ("val", "test")
_UNTRAINED_SEED = 0


@dataclass(frozen=True, kw_only=True)
class ScoreBlocksConfig:
    """What decides the scores: the encoder's settings, for the untrained network, and how scores are taken."""

    model: BlockEncoderConfig
    retrieval: RetrievalConfig


def score_blocks(run: MofRun) -> dict[str, Any]:
    """Score the embeddings of `embedded/`, and those of an untrained network, and write `block_scores/scores.json`.

    Returns:
        The stage's summary: the figures by name, with the numbers of blocks that they are of.

    Raises:
        StageError: there are no embeddings, or no held-out blocks, or the directory cannot be written or holds another
            run.
    """
    started = time.monotonic()
    embedded, blocks = run.directory("embed"), run.experiment.blocks
    inputs = {"embedded": require_stage(embedded, "embed").identity}
    config = ScoreBlocksConfig(model=blocks.model, retrieval=RetrievalConfig())
    library = BlockRecords.load(embedded / "blocks_train.safetensors")
    held_out = [BlockRecords.load(embedded / f"blocks_{split}.safetensors") for split in HELD_OUT]
    if not any(len(records) for records in held_out):
        raise StageError(f"{embedded} has no blocks of frameworks outside the training set")
    lineage = run.open_stage("score_blocks", config, inputs)
    if lineage.complete:
        return lineage.summary
    metrics = [*_score("trained", library, held_out, config.retrieval)]
    untrained = untrained_encoder(config.model)
    again = [_embedded_by(untrained, records, blocks.batch_size) for records in (library, *held_out)]
    metrics += _score("untrained", again[0], again[1:], config.retrieval)
    directory = run.directory("score_blocks")
    write_text(directory / "scores.json", json.dumps([metric.to_dict() for metric in metrics], indent=1) + "\n")
    summary = {
        "n": {"library": len(library), **{split: len(r) for split, r in zip(HELD_OUT, held_out, strict=True)}},
        **{metric.name: metric.value for metric in metrics},
        **{f"{metric.name}_n": metric.n for metric in metrics},
    }
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("score_blocks: %s", summary)
    return summary


def untrained_encoder(config: BlockEncoderConfig) -> BlockEncoder:
    """Make an encoder with random weights, the same ones each time, on a GPU where there is one."""
    with torch.random.fork_rng():
        torch.manual_seed(_UNTRAINED_SEED)
        model = BlockEncoder(config)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _embedded_by(model: BlockEncoder, records: BlockRecords, batch_size: int) -> BlockRecords:
    return replace(records, embedding=embeddings(model, records, batch_size))


def _score(
    name: str, library: BlockRecords, held_out: Sequence[BlockRecords], config: RetrievalConfig
) -> tuple[Metric, ...]:
    ecfp4 = np.concatenate([records.ecfp4[records.identity_index] for records in held_out])
    return score_embeddings(name, _embedded(held_out), ecfp4, _embedded([library]), config)


def _embedded(parts: Sequence[BlockRecords]) -> EmbeddedBlocks:
    names = [np.array([row.tobytes().hex() for row in records.identity_names], dtype="U32") for records in parts]
    vectors = [records.embedding for records in parts if records.embedding is not None]
    repeated = [own[records.identity_index] for own, records in zip(names, parts, strict=True)]
    return EmbeddedBlocks(np.concatenate(vectors), np.concatenate(repeated))
