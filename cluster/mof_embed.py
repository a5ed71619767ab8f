"""The stage embed: every building block becomes a point, by the trained encoder; frameworks and their statistics."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.lineage import finish_stage, require_stage
from cluster.run import MofRun
from matgen.data.arrays import pack_text
from matgen.data.mof_collate import collate_blocks
from matgen.data.mof_records import BlockRecords, CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics, build_statistics
from matgen.data.splits import PARTS
from matgen.errors import StageError
from matgen.models.block_encoder import BlockEncoder
from matgen.training.checkpoint import content_hash, find_checkpoint
from matgen.training.tasks import load_trained

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20  # rows of an array that are copied at a time


def embed(run: MofRun) -> dict[str, Any]:
    """Embed the blocks of `records/` with the encoder of `block_encoder/` and write `embedded/`.

    Returns:
        The stage's summary.

    Raises:
        StageError: the records are missing, or the directory cannot be written or holds another run.
        CheckpointError: there is no encoder, or it is corrupt.
    """
    started = time.monotonic()
    records = run.records_directory
    checkpoint = find_checkpoint(run.directory("train_blocks"))
    inputs = {
        "records": require_stage(records, "preprocess").identity,
        "block_encoder": content_hash(checkpoint)[:16],
    }
    lineage = run.open_stage("embed", run.experiment.blocks.model, inputs)
    if lineage.complete:
        return lineage.summary
    directory = run.directory("embed")
    model = load_encoder(checkpoint)
    counts: dict[str, int] = {}
    try:
        for split in PARTS:
            counts[split] = _embed_split(records, directory, split, model, run.experiment.blocks.batch_size)
        statistics = _statistics(directory)
        statistics.save(directory / CoarseStatistics.file_name)
    except OSError as error:
        raise StageError(f"cannot write {directory}: {error.strerror or error}") from error
    seconds = time.monotonic() - started
    summary = {"n": sum(counts.values()), "blocks": counts, "seconds": round(seconds, 3)}
    finish_stage(directory, lineage, summary, seconds)
    logger.info("embed: %s", summary)
    return summary


def load_encoder(checkpoint: Path) -> BlockEncoder:
    """Load a block encoder, onto a GPU where there is one.

    Raises:
        CheckpointError: it is missing or corrupt.
    """
    model = load_trained(checkpoint, "block_encoder")
    assert isinstance(model, BlockEncoder)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def embeddings(model: BlockEncoder, blocks: BlockRecords, batch_size: int) -> np.ndarray:
    """Embed blocks.

    Args:
        model: the encoder.
        blocks: any library.
        batch_size: blocks that go through the network together; those of a similar size do.

    Returns:
        float32[N, D].
    """
    device = next(model.parameters()).device
    order = np.argsort(blocks.num_atoms + blocks.num_connections, kind="stable")
    result = np.zeros((len(blocks), model.config.latent_dim), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        result[chosen] = model.embed(collate_blocks(blocks, chosen).to(device)).float().cpu().numpy()
    return result


def _embed_split(records: Path, directory: Path, split: str, model: BlockEncoder, batch_size: int) -> int:
    name = f"blocks_{split}.safetensors"
    blocks = BlockRecords.load(records / name)
    found = embeddings(model, blocks, batch_size)
    writer = BlockRecords.writer(directory / name, {"embedding": ("F32", (found.shape[1],))})
    for array in BlockRecords.shapes:
        values = getattr(blocks, array)
        for start in range(0, len(values), _CHUNK):
            writer.append(array, values[start : start + _CHUNK])
    writer.append("sources", pack_text(blocks.sources))
    writer.append("embedding", found)
    writer.finish()
    shutil.copyfile(records / f"coarse_{split}.safetensors", directory / f"coarse_{split}.safetensors")
    return len(blocks)


def _statistics(directory: Path) -> CoarseStatistics:
    blocks = BlockRecords.load(directory / "blocks_train.safetensors")
    assert blocks.embedding is not None
    frameworks = CoarseRecords.load(directory / "coarse_train.safetensors")
    return build_statistics(frameworks, blocks.embedding, blocks.arms(), blocks.conformer_offsets)
