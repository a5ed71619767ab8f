"""Names and ranges of the properties that a model has learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matgen.data.mof_properties import load_properties, properties_of, save_properties
from matgen.data.mof_records import CoarseRecords
from matgen.errors import CheckpointError


def records(properties: np.ndarray, names: tuple[str, ...]) -> CoarseRecords:
    empty = CoarseRecords.empty()
    count = len(properties)
    offsets = np.zeros(count + 1, np.int64)
    return replace(
        empty,
        lattice=np.tile(np.eye(3), (count, 1, 1)),
        offsets=offsets,
        edge_offsets=offsets,
        properties=properties.astype(np.float32),
        ids=tuple("abc"[:count]),
        property_names=names,
    )


def test_unknown_values_do_not_count_and_files_come_back(tmp_path: Path) -> None:
    values = np.array([[0.5, np.nan], [np.nan, np.nan], [0.75, np.nan]])
    known = properties_of(records(values, ("void_fraction", "uptake")))
    assert (known[0].name, known[0].count, known[0].low, known[0].high) == ("void_fraction", 2, 0.5, 0.75)
    assert known[0].mean == 0.625 and known[1].count == 0 and np.isnan(known[1].low)
    save_properties(known[:1], tmp_path / "properties.json")
    assert load_properties(tmp_path / "properties.json") == known[:1]
    (tmp_path / "broken.json").write_text('[{"name": "void_fraction"}]')
    with pytest.raises(CheckpointError, match=r"broken\.json"):
        load_properties(tmp_path / "broken.json")
