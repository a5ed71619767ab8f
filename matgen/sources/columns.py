"""What the columns of an input table mean, by their names."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ID_COLUMNS = ("material_id", "sample_id", "id", "name", "structure_id", "refcode", "entry_id", "cod_id")
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_SPLITS |= {split: split for split in ("train", "val", "test")}


def id_column(columns: Sequence[str]) -> int | None:
    """Where the id is.

    Args:
        columns: names in order.

    Returns:
        Its position, or None.
    """
    lower = [column.lower() for column in columns]
    return next((lower.index(name) for name in ID_COLUMNS if name in lower), None)


def split_of_name(path: PurePath) -> str | None:
    """The split that a file's name says, as in mp_20_val.parquet or train.csv.

    Args:
        path: the file.

    Returns:
        "train", "val", "test" or None.
    """
    for word in reversed(re.split(r"[^a-z]+", path.name.split(".")[0].lower())):
        if word in _SPLITS:
            return _SPLITS[word]
    return None


def split_of(properties: Mapping[str, object], default: str | None) -> str | None:
    """The split of a row: its split column's, else the file's.

    Args:
        properties: the row's scalars.
        default: the file's split.

    Returns:
        "train", "val", "test", another word that the column holds, or None.
    """
    value = properties.get("split")
    return _SPLITS.get(value.lower(), value) if isinstance(value, str) and value else default


def scalar_of(cell: str) -> object:
    """A CSV cell as int, float or text; None for an empty one.

    Args:
        cell: the cell's text.

    Returns:
        Its value.
    """
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        return cell
