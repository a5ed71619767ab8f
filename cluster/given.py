"""Structures that a user names by their path: opened, cut into shards, and what the record says of them."""

from pathlib import Path
from typing import Any, Protocol

from cluster.lineage import StageLineage, run_id
from cluster.parts import Shard
from cluster.preprocess import source_shards
from matgen.errors import StageError
from matgen.settings import to_dict
from matgen.sources.source import Source, SourceConfig, open_source


class GivenConfig(Protocol):
    """What the settings of a command on given structures have in common."""

    @property
    def limits(self) -> SourceConfig:
        """Which structures are read."""

    @property
    def shard_size(self) -> int:
        """Structures a shard."""

    @property
    def limit(self) -> int | None:
        """The first structures only."""


def open_given(path: str, config: GivenConfig) -> tuple[Source, list[Shard]]:
    """Open given structures and cut them into shards.

    Args:
        path: structures in any form that `open_source` reads.
        config: limits and shard size.

    Raises:
        SourceError: the input cannot be read as a whole.
        StageError: it holds no structure.
    """
    source = open_source(path, None, config.limits)
    shards = source_shards(source, config.shard_size, config.limit)
    if not shards:
        raise StageError(f"{path} holds no structure")
    return source, shards


def given_lineage(
    stage: str, path: str, out: Path, config: Any, source: Source, command: str, seed: int = 0
) -> StageLineage:
    """What run.json says of a command on given structures.

    Args:
        stage: name of the command, and of the run where `out` is new.
        path: of the structures.
        out: directory of the results.
        config: settings, a dataclass.
        source: the structures, open.
        command: the command line.
        seed: of the run.

    Raises:
        StageError: `out` cannot be written, or its run.json is not ours.
    """
    return StageLineage(
        stage=stage,
        run_id=run_id(out, stage),
        seed=seed,
        config=to_dict(config),
        inputs={"source": f"{Path(path).expanduser().resolve()}, {len(source)} rows"},
        command=command,
    )
