"""Data sets by name: from a local folder, from the cache, or downloaded from their public homes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from matgen.errors import DownloadError, SourceError
from matgen.sources.download import cache_dir, fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOTYPES = "aflow"
SPLITS = ("train", "val", "test")
_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data"
_DIFFCSP = "https://raw.githubusercontent.com/jiaor17/DiffCSP/main/data"


@dataclass(frozen=True)
class DataSet:
    """Where a named data set lives.

    Args:
        home: URL of the folder with train.csv, val.csv and test.csv.
        sha256: checksum by split, where its publisher states one. None of these publishers does; a file's checksum is
            therefore pinned on first download and verified on every later use.
    """

    home: str
    sha256: Mapping[str, str] = field(default_factory=dict)


DATA_SETS: dict[str, DataSet] = {
    "mp_20": DataSet(f"{_CDVAE}/mp_20"),
    "perov_5": DataSet(f"{_CDVAE}/perov_5"),
    "carbon_24": DataSet(f"{_CDVAE}/carbon_24"),
    "mpts_52": DataSet(f"{_DIFFCSP}/mpts_52"),
}
NAMES = frozenset({*DATA_SETS, PROTOTYPES})


def normalised(name: str) -> str:
    """mp-20, MP_20 and mp20 are one name.

    Args:
        name: as typed.

    Returns:
        The name in NAMES that it means, or the name itself.
    """
    bare = name.lower().replace("-", "").replace("_", "")
    return next((known for known in NAMES if known.replace("_", "") == bare), name)


def local_files(name: str, data_dir: Path | None, splits: Sequence[str] | None = None) -> dict[str, Path]:
    """The files of a data set by split; downloaded where none is at hand.

    Args:
        name: a key of DATA_SETS.
        data_dir: a folder with NAME_train.parquet (or .csv), or NAME/train.csv; None means the variable MATGEN_DATA.
        splits: which; None is all that are there.

    Returns:
        Path by split.

    Raises:
        SourceError: data_dir holds some of the data set, but not the splits asked for.
        DownloadError: it is nowhere, and cannot be downloaded.
    """
    wanted = tuple(splits) if splits else SPLITS
    unknown = set(wanted) - set(SPLITS)
    if unknown:
        raise SourceError(f"{name}: unknown split {', '.join(sorted(unknown))}; known are {', '.join(SPLITS)}")
    stated = data_dir or (Path(os.environ["MATGEN_DATA"]) if os.environ.get("MATGEN_DATA") else None)
    if stated is not None:
        if not stated.is_dir():
            raise SourceError(f"{stated}: no such folder, asked for {name} in it")
        present = {split: path for split in SPLITS if (path := _find(stated, name, split))}
        found = {split: present[split] for split in wanted if split in present}
        if found and (splits is None or len(found) == len(wanted)):
            return found
        if present:
            missing = ", ".join(split for split in wanted if split not in present)
            raise SourceError(f"{stated}: has {name} {', '.join(present)}, but not {missing}")
    return _download(name, wanted)


def _find(folder: Path, name: str, split: str) -> Path | None:
    names = (f"{name}_{split}.parquet", f"{name}_{split}.csv", f"{name}/{split}.parquet", f"{name}/{split}.csv")
    return next((folder / candidate for candidate in names if (folder / candidate).is_file()), None)


def _download(name: str, splits: Sequence[str]) -> dict[str, Path]:
    data_set = DATA_SETS[name]
    files = {}
    for split in splits:
        url = f"{data_set.home}/{split}.csv"
        target = cache_dir() / name / f"{split}.csv"
        try:
            files[split] = fetch(url, target, data_set.sha256.get(split))
        except DownloadError as error:
            advice = f"put {name}_{split}.parquet or .csv into a folder and name that (--data or MATGEN_DATA)"
            raise DownloadError(f"{error}; or {advice}") from error
    return files
