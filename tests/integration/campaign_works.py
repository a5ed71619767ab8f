"""Small works for campaign tests; a module of its own so that Ray actors can import it."""

import ctypes
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.parts import Shard
from matgen.errors import ClashError, SourceError

SCHEMA = pa.schema(
    [("sample_id", pa.int64()), ("square", pa.int64()), ("status", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True)
class SquareWork:
    """Squares numbers; some numbers do terrible things."""

    crash_on: tuple[int, ...] = ()
    kill_on: tuple[int, ...] = ()
    hang_on: tuple[int, ...] = ()
    bug_on: tuple[int, ...] = ()
    clash_on: tuple[int, ...] = ()
    seconds: float = 0.0
    once_file: str = ""  # with it, kill_on kills the first time only
    wait_from: int = 0  # with a file to wait for, rows from this one on wait until it is there
    wait_file: str = ""
    schema = SCHEMA

    def setup(self) -> None:
        pass

    def load(self, shard: Shard) -> Sequence[int]:
        if shard.payload == "unreadable":
            raise SourceError("input.parquet is not a readable parquet file: bad footer")
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        return [self._one(row) for row in rows]

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        return {"sample_id": row, "square": None, "status": status, "reason": reason}

    def _one(self, row: int) -> Mapping[str, Any]:
        time.sleep(self.seconds)
        while self.wait_file and row >= self.wait_from and not Path(self.wait_file).exists():
            time.sleep(0.1)
        if row in self.crash_on:
            os._exit(11)
        if row in self.kill_on and not (self.once_file and Path(self.once_file).exists()):
            if self.once_file:
                Path(self.once_file).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if row in self.hang_on:
            time.sleep(1000)
        if row in self.bug_on:
            raise KeyError("lattice")
        if row in self.clash_on:
            raise ClashError("0.1 Å between atoms 0 and 1")
        return {"sample_id": row, "square": row * row, "status": "ok", "reason": ""}


@dataclass(frozen=True)
class DyingWork(SquareWork):
    """Cannot even start."""

    def setup(self) -> None:
        os._exit(3)


@dataclass(frozen=True)
class OneByOneWork(SquareWork):
    """Takes rows one at a time, so that notes say which one was under way; some end in native code."""

    segfault_on: tuple[int, ...] = ()
    rows_at_once = 1
    divisible = True

    def _one(self, row: int) -> Mapping[str, Any]:
        if row in self.segfault_on:
            ctypes.string_at(0)
        return super()._one(row)


@dataclass(frozen=True)
class ThreadsWork(SquareWork):
    """Says how many threads torch, OpenMP and MKL would use, as one number of three digits."""

    def _one(self, row: int) -> Mapping[str, Any]:
        at, omp, mkl = native_threads()
        return {"sample_id": row, "square": 100 * at + 10 * omp + mkl, "status": "ok", "reason": ""}


def native_threads() -> list[int]:
    """Threads of torch's own loops, of OpenMP, and of MKL, as torch reports them."""
    import torch

    names = r"(?:at::get_num_threads|omp_get_max_threads|mkl_get_max_threads)\(\) : (\d+)"
    return [int(number) for number in re.findall(names, torch.__config__.parallel_info())]
