"""Where the crystals of an evaluation come from: our own tables, the records of a run, or anything a source reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cluster.decode import stored_structure, stored_unit
from cluster.lineage import read_lineage, require_stage
from cluster.parts import Shard, part_paths, read_part, shards_of_parts
from cluster.preprocess import RECORD_SCHEMA, source_shards
from matgen.crystal.structure import Structure
from matgen.errors import StageError
from matgen.representations.decode import DecodeConfig, decode
from matgen.sources.source import Source, open_source


@dataclass(frozen=True, eq=False)
class Entry:
    """One crystal of a population, or why there is none; `extra` holds columns that go with it."""

    id: str
    sample_id: int
    structure: Structure | None
    status: str
    reason: str
    space_group_requested: int = 0
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Population(Protocol):
    """Reads the crystals of a shard; cheap to pickle."""

    identity: str

    def shards(self) -> list[Shard]:
        """All shards."""

    def read(self, shard: Shard) -> list[Entry]:
        """The entries of a shard."""


class SampledPopulation:
    """The crystals of a stage decode, with the energies of a stage relax where it ran."""

    decoded = ("raw_min_distance", "raw_min_ratio", "moved_orbits")
    relaxed = ("e_above_hull", "rmsd_to_relaxed", "converged", "energy_per_atom", "asked_to_relax")

    def __init__(self, structures: Path, relaxed: Path | None) -> None:
        self.structures = structures
        self.relaxed_dir = relaxed if relaxed is not None and read_lineage(relaxed) is not None else None
        self.identity = require_stage(structures, "decode").identity
        self.hull = ""  # directory of the hull that the energies were held against
        self.relax_limit: int | None = None  # only samples below it were to be relaxed
        if self.relaxed_dir is not None:
            lineage = require_stage(self.relaxed_dir, "relax")
            if lineage.inputs.get("structures") != self.identity:
                raise StageError(f"{self.relaxed_dir} was made from other structures: run the stage relax again")
            self.identity += f"+{lineage.identity}"
            self.hull = str(lineage.config.get("hull") or "")
            self.relax_limit = lineage.config.get("limit")

    @property
    def has_energies(self) -> bool:
        """Whether the samples were relaxed."""
        return self.relaxed_dir is not None

    def shards(self) -> list[Shard]:
        """One for each part."""
        return shards_of_parts(self.structures)

    def read(self, shard: Shard) -> list[Entry]:
        """The crystals of a part as they were decoded; energies belong to their relaxed forms."""
        rows = read_part(Path(shard.payload))
        energies = read_part(self.relaxed_dir / shard.file_name) if self.relaxed_dir is not None else []
        entries = []
        for i, row in enumerate(rows):
            extra = {name: _number(row.get(name)) for name in self.decoded}
            if energies:
                extra |= {name: _number(energies[i].get(name)) for name in self.relaxed}
                extra["converged"] = float(bool(energies[i].get("converged")))
                extra["asked_to_relax"] = float(self.relax_limit is None or row["sample_id"] < self.relax_limit)
            sample_id, group = int(row["sample_id"]), row["space_group_number"] or 0
            entry = Entry(str(sample_id), sample_id, stored_structure(row), row["status"], row["reason"] or "", group)
            entries.append(replace(entry, extra=extra))
        return entries


class RecordPopulation:
    """The crystals of a stage preprocess, decoded from their records."""

    def __init__(self, records: Path) -> None:
        self.records = records
        self.identity = require_stage(records, "preprocess").identity

    def shards(self) -> list[Shard]:
        """One for each part."""
        return shards_of_parts(self.records)

    def read(self, shard: Shard) -> list[Entry]:
        """The good crystals of a part."""
        rows = [row for row in read_part(Path(shard.payload), RECORD_SCHEMA.names) if row["status"] == "ok"]
        crystals = decode([stored_unit(row) for row in rows], DecodeConfig(resolve_overlaps=False))
        return [
            Entry(row["material_id"], i, crystal.structure, "ok", "", row["space_group_number"], row["split"])
            for i, (row, crystal) in enumerate(zip(rows, crystals, strict=True))
        ]


class SourcePopulation:
    """The crystals of any file, folder, archive or named data set."""

    def __init__(self, path: str, shard_size: int = 256) -> None:
        self.source: Source = open_source(path)
        self.shard_size = shard_size
        self.identity = f"{self.source.name}, {len(self.source)} rows"

    def shards(self) -> list[Shard]:
        """Cut by rows."""
        return source_shards(self.source, self.shard_size)

    def read(self, shard: Shard) -> list[Entry]:
        """The crystals of a shard, good or bad."""
        first = shard.payload.first_row
        return [
            Entry(row.id, first + i, row.structure, row.status, row.reason, 0, row.split)
            for i, row in enumerate(self.source.read_shard(shard.payload))
        ]


def open_population(path: str) -> Population:
    """Open what a user names: a run's directory, a stage's, or anything that a source reads.

    Raises:
        SourceError: nothing there, or nothing that can be read.
        StageError: a stage's directory that is not complete.
    """
    directory = Path(path).expanduser()
    for candidate in (directory / "structures", directory):
        lineage = read_lineage(candidate) if candidate.is_dir() and part_paths(candidate) else None
        if lineage is not None and lineage.stage == "decode":
            return SampledPopulation(candidate, candidate.parent / "relaxed")
    for candidate in (directory / "records", directory):
        lineage = read_lineage(candidate) if candidate.is_dir() and part_paths(candidate) else None
        if lineage is not None and lineage.stage == "preprocess":
            return RecordPopulation(candidate)
    return SourcePopulation(path)


def structures_of(
    population: Population, splits: Sequence[str] | None = None, limit: int | None = None
) -> Iterator[tuple[str, Structure]]:
    """Yield id and structure of the good crystals, of some splits, up to a number."""
    left = limit if limit is not None else -1
    for shard in population.shards():
        for entry in population.read(shard):
            if left == 0:
                return
            if entry.structure is not None and entry.status == "ok" and (splits is None or entry.split in splits):
                left -= 1
                yield entry.id, entry.structure


def _number(value: Any) -> float:
    return float(value) if value is not None else float(np.nan)
