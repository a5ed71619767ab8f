"""The campaign that chaos is let loose on, on the Ray of a Slurm job: python chaos_campaign.py OUT ITEMS WORKERS."""

import ctypes
import math
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.campaign import CampaignConfig, run_campaign
from cluster.parts import Shard
from matgen.errors import ClashError

SCHEMA = pa.schema(
    [("sample_id", pa.int64()), ("value", pa.float64()), ("status", pa.string()), ("reason", pa.string())]
)
SHARD_SIZE = 25
ROW_DEADLINE_S = 8.0


def fate(row: int) -> str:
    """Status that a row must end with."""
    return {7: "crashed", 133: "timeout", 61: "clash", 211: "failed"}.get(row % 300, "ok")


def seconds(row: int) -> float:
    """Time that a row takes: as uneven as frameworks of 60 to 2,000 atoms are."""
    return 0.02 * math.exp(random.Random(row).gauss(0.0, 1.2))


class ChaosWork:
    """Rows that sleep, and some that do terrible things, always the same ones."""

    schema = SCHEMA
    rows_at_once = 1
    divisible = True

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[int]:
        """Row numbers."""
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Meet the rows' fates."""
        return [self._one(row) for row in rows]

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A row without a value."""
        return {"sample_id": row, "value": None, "status": status, "reason": reason}

    def _one(self, row: int) -> Mapping[str, Any]:
        end = fate(row)
        if end == "crashed":
            ctypes.string_at(0)
        if end == "timeout":
            time.sleep(10_000)
        if end == "clash":
            raise ClashError("0.1 Å between atoms 0 and 1")
        if end == "failed":
            raise KeyError("lattice")
        time.sleep(seconds(row))
        return {"sample_id": row, "value": math.sin(row), "status": "ok", "reason": ""}


def main(out: Path, items: int, workers: int) -> None:
    """Run the campaign, or go on with it."""
    starts = range(0, items, SHARD_SIZE)
    shards = [Shard(i, min(SHARD_SIZE, items - start), start) for i, start in enumerate(starts)]
    config = CampaignConfig(num_workers=workers, progress=False, row_deadline_s=ROW_DEADLINE_S, shard_deadline_s=300.0)
    print(run_campaign(ChaosWork(), shards, out, config).as_dict(), flush=True)


if __name__ == "__main__":
    import chaos_campaign  # actors unpickle by module name

    chaos_campaign.main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
