"""The properties that a coarse diffusion has learnt: their names, and the range that its training set covers."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from matgen.data.mof_records import CoarseRecords
from matgen.errors import CheckpointError

PROPERTIES = "properties.json"
"""Beside a checkpoint that is passed on without its training set."""


@dataclass(frozen=True, kw_only=True)
class KnownProperty:
    """Values of one property over the training frameworks that have it, in its own unit; NaN where none has.

    Attributes:
        name: such as void_fraction.
        count: frameworks whose value is known.
        low, high: smallest and largest value.
        mean, std: over the known values.
    """

    name: str
    count: int
    low: float
    high: float
    mean: float
    std: float


def properties_of(records: CoarseRecords) -> tuple[KnownProperty, ...]:
    """Sum up the properties of a training set.

    Args:
        records: the training set.
    """
    found = []
    for name, values in zip(records.property_names, records.properties.T.astype(np.float64), strict=True):
        known = values[np.isfinite(values)]
        numbers = (known.min(), known.max(), known.mean(), known.std()) if len(known) else (np.nan,) * 4
        low, high, mean, std = (float(number) for number in numbers)
        found.append(KnownProperty(name=name, count=len(known), low=low, high=high, mean=mean, std=std))
    return tuple(found)


def save_properties(properties: Sequence[KnownProperty], path: Path) -> None:
    """Write one JSON file.

    Args:
        properties: of a training set, in the order of the model.
        path: `properties.json` of a folder with a checkpoint.
    """
    path.write_text(json.dumps([asdict(item) for item in properties], indent=1) + "\n")


def load_properties(path: Path) -> tuple[KnownProperty, ...]:
    """Read a file written by `save_properties`.

    Raises:
        CheckpointError: it cannot be read, or is no such file.
    """
    try:
        return tuple(KnownProperty(**item) for item in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: not readable as properties ({error})") from error
