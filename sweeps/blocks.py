"""The block encoder as the subject of a sweep: judged by what its embeddings tell apart, whatever its losses' scale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cluster.mof_preprocess import mof_preprocess
from cluster.run import AnyRun
from matgen.data.mof_collate import collate_blocks
from matgen.data.mof_records import BlockRecords
from matgen.errors import ConfigError
from matgen.models.block_encoder import BlockEncoder
from matgen.settings import from_dict
from matgen.training.state import TrainConfig
from sweeps.mofdiff_spaces import BLOCK_CONTRAST, BLOCK_NETWORK, BLOCK_POPULATION, paper_blocks
from sweeps.quality import FORMULA, Sampled, quality
from sweeps.spaces import Space, join
from sweeps.subjects import Judged, Reference

_BATCH = 64


class Blocks:
    """Judged on held-out building blocks: is the nearest one the same block, and are the heads right?"""

    kind = "block_encoder"
    noun = "building blocks"
    spaces: Sequence[Space] = (
        join("blocks", "contrast and encoder together", BLOCK_CONTRAST, BLOCK_NETWORK),
        *(BLOCK_CONTRAST, BLOCK_NETWORK, BLOCK_POPULATION),
    )
    baselines: Mapping[str, Any] = {"paper": paper_blocks}
    formula = (
        f"{FORMULA}, over held-out blocks: retrieved (the nearest other block in the embedding is the same block, of "
        "those that occur twice), connections (the head's number is right), atoms (right within 10 %), diameter (right "
        "within 10 %), metal (told from linkers)"
    )

    def check(self, experiment: Any) -> None:
        """Refuse an experiment of another kind.

        Raises:
            ConfigError: it is not one on frameworks.
        """
        if not hasattr(experiment, "blocks"):
            raise ConfigError(f"{experiment.name} is no experiment on frameworks")

    def read(self, values: dict[str, Any]) -> Any:
        """Return an experiment from JSON values."""
        from matgen.mof_config import MofExperiment

        return from_dict(MofExperiment, values)

    def prepare(self, run: AnyRun) -> Path:
        """Make the records."""
        if run.records is None:
            mof_preprocess(run)
        return run.records_directory

    def reference(self, records: Path) -> Reference:
        """Nothing: the held-out blocks are their own reference."""
        return {"none": np.zeros(1)}

    def model(self, experiment: Any) -> Any:
        """The encoder's settings."""
        return experiment.blocks.model

    def train(self, experiment: Any) -> TrainConfig:
        """The settings of its training."""
        config: TrainConfig = experiment.blocks.train
        return config

    def with_train(self, experiment: Any, config: TrainConfig) -> Any:
        """The experiment with other settings of training."""
        return replace(experiment, blocks=replace(experiment.blocks, train=config))

    def judge(
        self, model: nn.Module, experiment: Any, records: Path, reference: Reference, count: int, seed: int
    ) -> Judged:
        """Embed held-out blocks, at most `count`; of few, the training blocks take their place."""
        assert isinstance(model, BlockEncoder)
        held_out = records / "blocks_val.safetensors"
        blocks = BlockRecords.load(held_out) if held_out.exists() else BlockRecords.empty()
        if len(blocks) < 20:
            blocks = BlockRecords.load(records / "blocks_train.safetensors")
        rows = np.sort(np.random.default_rng(seed).permutation(len(blocks))[:count])
        device = next(model.parameters()).device
        pieces = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        batches = [collate_blocks(blocks, piece, piece).to(device) for piece in pieces]
        latent = torch.cat([model.embed(batch) for batch in batches]).float()
        told = model.describe(latent)
        truth = {
            name: torch.cat([getattr(batch, name) for batch in batches])
            for name in ("identity", "num_connections", "num_atoms", "diameter", "is_metal")
        }
        flags = {
            "connections": told["num_connections"] == truth["num_connections"],
            "atoms": _within(told["num_atoms"].float(), truth["num_atoms"].float()),
            "diameter": _within(told["diameter"], truth["diameter"]),
            "metal": (told["is_metal"] > 0.5) == truth["is_metal"].bool(),
        }
        retrieved, share = _retrieved(latent, truth["identity"])
        arrays = {name: flag.cpu().numpy() for name, flag in flags.items()}
        return Judged(
            quality=quality(Sampled(flags={"retrieved": retrieved, **arrays}, values={}), reference),
            figures={"repeated": share},
        )


def _within(told: Tensor, truth: Tensor, tolerance: float = 0.1) -> Tensor:
    return (told - truth).abs() <= tolerance * truth.abs()


def _retrieved(latent: Tensor, identity: Tensor) -> tuple[np.ndarray, float]:
    """Whether the nearest other block is the same; rows of blocks that occur once get the others' share."""
    distance = torch.cdist(latent, latent).fill_diagonal_(torch.inf)
    same = identity[distance.argmin(1)] == identity
    repeated = (identity[:, None] == identity[None]).sum(1) > 1
    share = same[repeated].double().mean() if bool(repeated.any()) else torch.zeros(())
    flags = torch.where(repeated, same.double(), share.double())
    return flags.cpu().numpy(), float(repeated.double().mean())
