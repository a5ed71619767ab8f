"""Frameworks of QMOF packed into a library and coarse records: each block is found again where it was."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from cluster.mof_preprocess import distinct_blocks, is_measured, mof_preprocess
from cluster.parts import iterate_rows
from cluster.run import Run
from matgen.data.mof_records import CoarseRecords
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock
from matgen.mof_config import MofExperiment, MofPreprocessConfig


def test_turned_blocks_are_one_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 3, (3, 3))
    block = BuildingBlock(
        np.array([6, 8]), rng.normal(0, 1, (2, 3)), np.array([[0, 1]]), points, np.array([0, 1, 1]), "linker"
    )
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    longer = BuildingBlock(
        block.atomic_numbers, block.cart_coords * 1.3, block.bonds, points, block.connection_atoms, "linker"
    )
    kept, index = distinct_blocks([block, block.rotated(turn), longer, block])
    assert len(kept) == 2 and index.tolist() == [0, 0, 1, 0]


@pytest.mark.data
@pytest.mark.skipif("MATGEN_DATA" not in os.environ, reason="needs MATGEN_DATA")
def test_records_hold_the_frameworks(tmp_path: Path) -> None:
    config = MofPreprocessConfig(limit=30, shard_size=10, properties=("lcd", "no_such_property"))
    experiment = MofExperiment(name="mofs", preprocess=config)
    summary = mof_preprocess(
        Run(experiment=experiment, out=tmp_path, num_workers=0, data=Path(os.environ["MATGEN_DATA"]))
    )
    assert summary["n"] == 30 and summary["status"]["ok"] > 20
    assert sum(split["frameworks"] for split in summary["splits"].values()) == summary["status"]["ok"]
    rows = {row["material_id"]: row for row in iterate_rows(tmp_path / "records") if row["status"] == "ok"}
    library = BlockLibrary.load(tmp_path / "records/blocks_train.safetensors")
    coarse = CoarseRecords.load(tmp_path / "records/coarse_train.safetensors")
    assert library.num_blocks == summary["splits"]["train"]["blocks"]
    for index in range(library.num_blocks):
        assert library.block(index).identity == library.identity(index)
    for number, name in enumerate(coarse.ids):
        row, own = rows[name], slice(coarse.offsets[number], coarse.offsets[number + 1])
        blocks = coarse.block_index[own]
        assert [library.identity(i) for i in blocks.tolist()] == [row["identities"][i] for i in row["block_index"]]
        assert {library.source(i) for i in blocks.tolist()} == {name}
        assert np.array_equal(coarse.num_connections[own], library.num_connections[blocks])
        assert np.allclose(coarse.lattice[number].ravel(), row["lattice"])
    assert np.isnan(coarse.properties[:, 1]).all()


@pytest.mark.data
@pytest.mark.skipif("MATGEN_DATA" not in os.environ, reason="needs MATGEN_DATA")
@pytest.mark.skipif(importlib.util.find_spec("pyzeo") is None, reason="needs pyzeo")
def test_a_share_of_the_frameworks_has_its_pores_measured(tmp_path: Path) -> None:
    names = ("void_fraction", "pore_limiting_diameter")
    config = MofPreprocessConfig(limit=20, shard_size=10, properties=names, measured_share=0.4)
    experiment = MofExperiment(name="mofs", preprocess=config)
    mof_preprocess(Run(experiment=experiment, out=tmp_path, num_workers=0, data=Path(os.environ["MATGEN_DATA"])))
    coarse = CoarseRecords.load(tmp_path / "records/coarse_train.safetensors")
    known = np.isfinite(coarse.properties).all(axis=1)
    assert known.tolist() == [is_measured(name, 0.4) for name in coarse.ids] and 0 < known.sum() < len(known)
    void, limit = coarse.properties[known].T
    assert ((void > 0) & (void < 1)).all() and ((limit > 0) & (limit < 30)).all()
    assert all(is_measured(name, 0.7) for name in coarse.ids if is_measured(name, 0.4))
