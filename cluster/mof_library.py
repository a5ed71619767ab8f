"""The library of building blocks that goes with a checkpoint, and what stands in it for sampled blocks."""

import json
from pathlib import Path

import numpy as np
import torch

from cluster.run import AnyRun, MofRun
from matgen.errors import StageError
from matgen.models.mofdiff import MOFDiff
from matgen.models.mofdiff_sampling import ChosenBlocks, SampledFeatures
from matgen.mof.block_library import BlockLibrary
from matgen.mof.lookup import BlockLookup, LookupConfig, SampledBlocks
from matgen.settings import to_dict

LIBRARY = "blocks.safetensors"


class LibraryChooser:
    """Takes the blocks of sampled frameworks to those of a library, as the first choice of a lookup does.

    Args:
        path: of the library, with embeddings; read by `setup`.
        config: of the lookup.
    """

    def __init__(self, path: Path, config: LookupConfig) -> None:
        self.path, self.config = path, config

    def setup(self) -> None:
        """Map the library and build its index."""
        self.library = BlockLibrary.load(self.path)
        self.lookup = BlockLookup(self.library, self.config)

    def lineage(self) -> dict[str, str]:
        """What of it decides the samples."""
        return {"library": f"{self.path.stat().st_size} bytes", "lookup": json.dumps(to_dict(self.config))}

    def __call__(self, sampled: SampledFeatures) -> ChosenBlocks:
        """Choose; frameworks do not see each other."""
        columns = (sampled.embedding, sampled.is_metal, sampled.num_connections)
        embedding, is_metal, connections = (column.cpu().numpy() for column in columns)
        stops = np.cumsum(sampled.num_blocks.cpu().numpy())[:-1]
        parts = zip(np.split(embedding, stops), np.split(is_metal, stops), np.split(connections, stops), strict=True)
        index = np.concatenate([self._first(SampledBlocks(*part)) for part in parts])
        device = sampled.embedding.device
        assert self.library.embedding is not None
        return ChosenBlocks(
            index=torch.as_tensor(index, device=device),
            embedding=torch.as_tensor(np.asarray(self.library.embedding[index], dtype=np.float32), device=device),
            is_metal=torch.as_tensor(np.asarray(self.library.is_metal)[index], device=device),
            num_connections=torch.as_tensor(np.asarray(self.library.num_connections)[index], device=device),
        )

    def _first(self, sampled: SampledBlocks) -> np.ndarray:
        return next(self.lookup.choices(sampled, np.random.default_rng(0))).index


def chooser_of(run: MofRun, model: MOFDiff) -> LibraryChooser | None:
    """Return what a model needs that draws centres for real blocks; None for one that draws both together.

    Raises:
        StageError: it needs a library, and there is none.
    """
    if model.blocks is None:
        return None
    return LibraryChooser(library_path(run).resolve(), run.experiment.decode.lookup)


def library_path(run: AnyRun) -> Path:
    """Return the library that goes with the run's checkpoint: beside it, or that of the stage embed.

    Raises:
        StageError: there is none.
    """
    candidates = [run.directory("embed") / "blocks_train.safetensors"]
    if run.checkpoint is not None:
        candidates = [run.checkpoint / LIBRARY, run.checkpoint.parent / "embedded" / "blocks_train.safetensors"]
    for path in candidates:
        if path.is_file():
            return path
    raise StageError(f"{candidates[0]} is missing: no library of building blocks to decode with")
