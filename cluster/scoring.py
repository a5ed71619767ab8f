"""The work of the stage evaluate that is cut into shards: scores of single crystals, and equal structures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.parts import Shard, part_paths, read_table
from cluster.populations import Entry, Population
from matgen.evaluation.novelty import MatchConfig, match_structures
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.scores import ScoreConfig, score_structures
from matgen.evaluation.table import Table


class ScoreWork:
    """Scores the crystals of a shard, one by one."""

    def __init__(self, population: Population, config: ScoreConfig, extra: Sequence[str]) -> None:
        self.population = population
        self.config = config
        self.extra = tuple(extra)
        self.schema = pa.schema(
            [
                ("id", pa.string()),
                ("sample_id", pa.int64()),
                *_fields(score_structures([None], [0], config)),
                *((name, pa.float64()) for name in self.extra),
            ]
        )

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Entry]:
        """The crystals of a shard."""
        return self.population.read(shard)[: shard.num_rows]

    def process(self, rows: Sequence[Entry]) -> list[Mapping[str, Any]]:
        """Score them."""
        table = score_structures(
            [row.structure for row in rows],
            [row.space_group_requested for row in rows],
            self.config,
            statuses=[row.status for row in rows],
            reasons=[row.reason for row in rows],
        )
        scores = [{name: plain(values[i]) for name, values in table.items()} for i in range(len(rows))]
        return [
            {"id": row.id, "sample_id": row.sample_id, **score, **row.extra}
            for row, score in zip(rows, scores, strict=True)
        ]

    def failed(self, row: Entry, status: str, reason: str) -> Mapping[str, Any]:
        """A crystal that could not be scored: the row of a missing one."""
        table = score_structures([None], [row.space_group_requested], self.config, statuses=[status], reasons=[reason])
        score = {name: plain(values[0]) for name, values in table.items()}
        return {"id": row.id, "sample_id": row.sample_id, **score, **row.extra}


class MatchWork:
    """Finds equal structures among samples of equal formulas, and in the training set."""

    schema = pa.schema(
        [
            ("sample_id", pa.int64()),
            ("component", pa.int64()),
            ("component_size", pa.int64()),
            ("novel_train", pa.bool_()),
            ("match_train", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
        ]
    )

    def __init__(self, samples: ReferenceIndex, train: ReferenceIndex, config: MatchConfig) -> None:
        self.samples = samples
        self.train = train
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[int]:
        """Rows of the samples' index."""
        return list(shard.payload)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Match them."""
        ids = [int(self.samples.ids[row]) for row in rows]
        known = self.train.select_formulas({str(self.samples.formulas[row]) for row in rows})
        table = match_structures([self.samples[row] for row in rows], ids, {"train": known}, self.config)
        return [
            {**{name: plain(values[i]) for name, values in table.items()}, "status": "ok", "reason": ""}
            for i in range(len(rows))
        ]

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A structure that could not be compared counts as its own class, and as known."""
        sample_id = int(self.samples.ids[row])
        own = {"component": sample_id, "component_size": 1, "novel_train": False, "match_train": ""}
        return {"sample_id": sample_id, **own, "status": status, "reason": reason}


def table_of(directory: Path) -> Table:
    """Read all parts of a directory as columns."""
    return columns_of(pa.concat_tables([read_table(path) for path in part_paths(directory)]))


def columns_of(table: pa.Table) -> Table:
    """Columns of a table as arrays; text as object arrays."""
    columns: Table = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type):
            columns[name] = np.array([value or "" for value in column.to_pylist()], dtype=object)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


def _fields(table: Table) -> list[tuple[str, pa.DataType]]:
    kinds = {"f": pa.float64(), "b": pa.bool_(), "i": pa.int64(), "O": pa.string(), "U": pa.string()}
    return [(name, kinds[values.dtype.kind]) for name, values in table.items()]


def plain(value: Any) -> Any:
    """A number of numpy as one of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
