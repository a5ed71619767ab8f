"""Stage 3 for MOFs: blocks of the library for sampled embeddings, the feasibility gate, and self-assembly."""

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.decode import structure_columns
from cluster.lineage import finish_stage, require_stage
from cluster.mof_library import library_path
from cluster.mof_sample import MOF_SAMPLE_SCHEMA
from cluster.mof_trial import FrameworkTrial
from cluster.parts import Shard, read_part, shards_of_parts
from cluster.run import MofRun
from matgen.errors import StageError
from matgen.mof.assemble import Assembly, AssemblyInput, feasibility
from matgen.mof.assembly.feasibility import balance
from matgen.mof.block_library import BlockLibrary
from matgen.mof.choices import Assembled, assemble_choices
from matgen.mof.lookup import BlockLookup, Choice, SampledBlocks
from matgen.mof_config import MofDecodeConfig

logger = logging.getLogger(__name__)

_floats, _shorts = pa.list_(pa.float64()), pa.list_(pa.int16())

MOF_DECODED_FIELDS = [
    ("block_identities", pa.list_(pa.string())),
    ("block_distances", pa.list_(pa.float32())),
    ("mirrored", pa.list_(pa.bool_())),
    ("num_assembled", pa.int16()),
    ("num_trials", pa.int16()),
    ("trial_status", pa.string()),
    ("num_atoms", pa.int32()),
    ("formula", pa.string()),
    ("lattice", _floats),
    ("structure_frac_coords", _floats),
    ("structure_atomic_numbers", _shorts),
    ("block_of_atom", _shorts),
    ("bonds", pa.list_(pa.int32())),
    ("bond_images", pa.list_(pa.int8())),
    ("block_frac_coords", _floats),
    ("rotations", _floats),
    ("pairs", _shorts),
    ("pair_images", pa.list_(pa.int8())),
    ("residuals", _floats),
    ("shortest_contact", pa.float64()),
]
MOF_STRUCTURE_SCHEMA = pa.schema([*MOF_SAMPLE_SCHEMA, *MOF_DECODED_FIELDS])


class MofDecodeWork:
    """Decodes the samples of a part."""

    schema = MOF_STRUCTURE_SCHEMA
    rows_at_once = 1  # all starts of one are in one tensor; frameworks side by side gain nothing on a CPU
    divisible = True

    def __init__(self, library: Path, config: MofDecodeConfig) -> None:
        self.path = library
        self.config = config

    def setup(self) -> None:
        """Map the library and build its index."""
        self.library = BlockLibrary.load(self.path)
        self.lookup = BlockLookup(self.library, self.config.lookup)
        self.trial = FrameworkTrial(self.config.trial) if self.config.assemble.trials else None

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of samples."""
        return read_part(Path(shard.payload), MOF_SAMPLE_SCHEMA.names)

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Decode them one by one; a sample that failed before stays as it is."""
        return [{**row, **self._decoded(row)} if row["status"] == "ok" else row for row in rows]

    def _decoded(self, row: Mapping[str, Any]) -> dict[str, Any]:
        seen: list[Choice] = []

        def tiers() -> Iterator[list[AssemblyInput]]:
            for _, tier in itertools.groupby(self._choices(row), key=lambda pair: pair[0].tier):
                pairs = list(tier)
                seen.extend(choice for choice, _ in pairs)
                yield [given for _, given in pairs]

        made = assemble_choices(tiers(), int(row["sample_id"]), self.config.assemble, self.trial)
        return self._columns(seen[made.choice], made)

    def _choices(self, row: Mapping[str, Any]) -> Iterator[tuple[Choice, AssemblyInput]]:
        """Choices of blocks that pass the feasibility gate, the one that centres were drawn for first; at least one.

        Where centres may move, connections have to balance, and no more.
        """
        count = row["num_blocks"]
        sampled = SampledBlocks(
            embedding=np.asarray(row["embedding"], dtype=np.float64).reshape(count, -1),
            is_metal=np.asarray(row["is_metal"], dtype=bool),
            num_connections=np.asarray(row["num_connections"], dtype=np.float64),
        )
        choices = self.lookup.choices(sampled, np.random.default_rng(int(row["sample_id"])))
        if row.get("block_index") is not None:
            choices = self._with_drawn(np.asarray(row["block_index"], dtype=np.int64), sampled, choices)
        gate = balance if self.config.assemble.anneal.starts else feasibility  # whether centres may move
        first: tuple[Choice, AssemblyInput] | None = None
        found = False
        for choice in choices:
            given = self._input(row, choice)
            first = first or (choice, given)
            if gate(given) is None:
                found = True
                yield choice, given
        if not found and first is not None:
            yield first

    def _with_drawn(self, index: np.ndarray, sampled: SampledBlocks, choices: Iterator[Choice]) -> Iterator[Choice]:
        """These blocks, and then the choices; of the first tier as many as without them."""
        assert self.library.embedding is not None
        distance = np.linalg.norm(self.library.embedding[index] - sampled.embedding, axis=1)
        yield Choice(index, distance, int(self.lookup.surplus[index].sum()) == 0)
        count = 1
        for choice in choices:
            if not np.array_equal(choice.index, index) and (choice.tier or count < self.config.lookup.num_tries):
                count += 1
                yield choice

    def _input(self, row: Mapping[str, Any], choice: Choice) -> AssemblyInput:
        return AssemblyInput(
            lattice=np.asarray(row["coarse_lattice"], dtype=np.float64).reshape(3, 3),
            frac_coords=np.asarray(row["coarse_frac_coords"], dtype=np.float64).reshape(-1, 3),
            blocks=tuple(self.library.block(int(index)) for index in choice.index),
        )

    def _columns(self, choice: Choice, made: Assembled) -> dict[str, Any]:
        assembly = made.assembly
        columns: dict[str, Any] = {
            "status": assembly.status,
            "reason": assembly.reason,
            "block_index": choice.index,
            "block_identities": [self.library.identity(int(index)) for index in choice.index],
            "block_distances": choice.distance,
            "mirrored": made.mirrored,
            "num_assembled": made.num_tried,
            "num_trials": made.num_trials,
            "trial_status": made.grade.name.lower() if made.num_trials else "",
            "residuals": assembly.residuals,
            "shortest_contact": assembly.shortest_contact,
        }
        return columns | (assembly_columns(assembly) if assembly.closed else {})

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A sample that could not be decoded."""
        return {**row, "status": status, "reason": reason}


def assembly_columns(assembly: Assembly) -> dict[str, Any]:
    """Table columns of a closed assembly: atoms, bonds, and which block each atom belongs to."""
    structure, bonds = assembly.to_structure()
    counts = [block.num_atoms for block in assembly.blocks]
    return {
        **structure_columns(structure),
        "block_of_atom": np.repeat(np.arange(len(counts)), counts),
        "bonds": np.stack([bonds.first, bonds.second], axis=1).ravel(),
        "bond_images": np.asarray(bonds.image).ravel(),
        "block_frac_coords": np.asarray(assembly.frac_coords).ravel(),
        "rotations": assembly.rotations.ravel(),
        "pairs": assembly.pairs.ravel(),
        "pair_images": assembly.pair_image.ravel(),
    }


def mof_decode(run: MofRun) -> dict[str, Any]:
    """Decode `samples/` and write `structures/`.

    Returns:
        The stage's summary.

    Raises:
        StageError: the samples or the library are missing, centres were drawn for the blocks of another library, or the
            directory cannot be written or holds another run.
        SourceError: a part of the samples is corrupt.
    """
    started = time.monotonic()
    config = run.experiment.decode
    samples = require_stage(run.directory("sample"), "sample", partial=run.shards is not None)
    library = library_path(run)
    size = f"{library.stat().st_size} bytes"
    if samples.inputs.get("library", size) != size:
        raise StageError(f"centres were drawn for another library than {library}: name the checkpoint they are of")
    inputs = {
        "samples": samples.identity,
        "checkpoint": samples.inputs.get("checkpoint", ""),
        "library": size,
    }
    lineage = run.open_stage("decode", config, inputs)
    if lineage.complete:
        return lineage.summary
    shards = shards_of_parts(run.directory("sample"), "num_blocks")
    settings = run.campaign("decode", shard_deadline_s=config.shard_deadline_s, row_deadline_s=config.row_deadline_s)
    directory = run.directory("decode")
    work = MofDecodeWork(library.resolve(), config)
    summary = run_campaign(work, shards, directory, settings, lineage.table_metadata).as_dict()
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("decode: %s in %.1f s", summary["status"], summary["seconds"])
    return summary
