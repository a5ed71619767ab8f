"""Building blocks and frameworks go through the same trainer as crystals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mof_toys import fake_blocks, fake_frameworks
from safetensors.torch import load_file

from matgen.data.block_plan import BlockPlan
from matgen.data.mof_collate import collate_blocks, collate_frameworks
from matgen.data.mof_records import BlockRecords, CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics, build_statistics, lattice_from_target, lattice_target
from matgen.data.records import RecordsError
from matgen.mof_config import tiny_block_encoder, tiny_mofdiff
from matgen.training.blocks import BlockSet
from matgen.training.frameworks import FrameworkSet
from matgen.training.history import read_history
from matgen.training.run import PlainRun, train_plain
from matgen.training.state import TrainConfig
from matgen.training.tasks import load_trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, seed in (("train", 0), ("val", 1)):
        blocks = fake_blocks(seed=seed)
        writer = BlockRecords.writer(tmp_path / f"blocks_{split}.safetensors", {"embedding": ("F32", (32,))})
        for name in BlockRecords.shapes:
            writer.append(name, getattr(blocks, name))
        writer.append("sources", np.frombuffer("\n".join(blocks.sources).encode(), np.uint8))
        writer.append("embedding", blocks.embedding)
        writer.finish()
        frameworks = fake_frameworks(blocks, seed=seed)
        frameworks.save(tmp_path / f"coarse_{split}.safetensors")
        if split == "train":
            assert blocks.embedding is not None
            build_statistics(frameworks, blocks.embedding, blocks.arms()).save(tmp_path / "statistics.safetensors")
    return tmp_path


def test_files_hold_what_was_written(folder: Path) -> None:
    blocks, given = BlockRecords.load(folder / "blocks_train.safetensors"), fake_blocks()
    for name in (*BlockRecords.shapes, "embedding"):
        assert np.array_equal(getattr(blocks, name), getattr(given, name)), name
    assert blocks.sources == given.sources
    frameworks, made = CoarseRecords.load(folder / "coarse_train.safetensors"), fake_frameworks(given)
    for name in CoarseRecords.shapes:
        assert np.array_equal(getattr(frameworks, name), getattr(made, name), equal_nan=name == "properties"), name
    assert frameworks.ids == made.ids and frameworks.property_names == ("void_fraction", "density")
    assert not list(folder.glob(".*")), "nothing is left aside"
    file = folder / "blocks_val.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RecordsError, match="blocks_val"):
        BlockRecords.load(file)


def test_the_library_reads_the_same_file(folder: Path) -> None:
    library_module = pytest.importorskip("matgen.mof.block_library")
    library = library_module.BlockLibrary.load(folder / "blocks_train.safetensors")
    blocks = fake_blocks()
    assert library.num_blocks == len(blocks) and np.array_equal(library.identity_index, blocks.identity_index)
    assert np.allclose(
        library.block(4).connection_points, blocks.connection_points[slice(*blocks.connection_offsets[4:6])]
    )


def test_pairs_come_from_two_frameworks() -> None:
    blocks = fake_blocks()
    plan = BlockPlan(blocks.identity_index, blocks.source_index, blocks.num_atoms, 16, seed=3)
    assert plan.num_pairs >= 4 and len(plan.paired) == 8 and len(plan.single) == 4
    seen: set[int] = set()
    for step in range(40):
        indices = plan.indices(step)
        assert len(indices) == 16 and np.array_equal(indices, plan.indices(step))
        pairs = indices[: 2 * plan.num_pairs].reshape(-1, 2)
        assert (blocks.identity_index[pairs[:, 0]] == blocks.identity_index[pairs[:, 1]]).all()
        assert (blocks.source_index[pairs[:, 0]] != blocks.source_index[pairs[:, 1]]).all()
        seen |= set(indices.tolist())
    assert seen == set(range(len(blocks))), "every block is drawn at some time"
    assert not np.array_equal(plan.indices(0), plan.indices(1))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_a_step_of_blocks(world_size: int) -> None:
    blocks = fake_blocks()
    plan = BlockPlan(blocks.identity_index, blocks.source_index, blocks.num_atoms, 13, seed=3)
    parts = [plan.micro_batch(5, rank, world_size) for rank in range(world_size)]
    rows = np.concatenate([row_ids for _, row_ids in parts])
    assert sorted(rows) == list(range(5 * 13, 6 * 13))
    indices = plan.indices(5)
    for own, row_ids in parts:
        assert np.array_equal(indices[row_ids - 5 * 13], own) and 13 // world_size <= len(own) <= -(-13 // world_size)


def test_blocks_without_any_pair_can_be_planned() -> None:
    plan = BlockPlan(np.arange(5), np.zeros(5), np.ones(5), 4, seed=0)
    assert plan.num_pairs == 0 and len(plan.indices(7)) == 4
    with pytest.raises(ValueError, match="at least one"):
        BlockPlan(np.empty(0, int), np.empty(0, int), np.empty(0, int), 4, seed=0)


def test_a_batch_of_blocks_is_its_blocks() -> None:
    blocks = fake_blocks()
    batch = collate_blocks(blocks, np.array([7, 0, 3]))
    assert batch.num_graphs == 3 and batch.identity.tolist() == blocks.identity_index[[7, 0, 3]].tolist()
    for place, row in enumerate((7, 0, 3)):
        own = batch.graph_index == place
        assert int((own & ~batch.is_connection).sum()) == blocks.num_atoms[row]
        assert int((own & batch.is_connection).sum()) == blocks.num_connections[row]
        points = batch.cart_coords[own]
        assert float(batch.diameter[place]) == pytest.approx(float(torch.cdist(points, points).max()), rel=1e-5)
        alone = collate_blocks(blocks, np.array([row]))
        assert torch.equal(points, alone.cart_coords) and torch.equal(batch.atomic_numbers[own], alone.atomic_numbers)
        first = int(torch.nonzero(own)[0])
        inside = own[batch.edge_index[0]]
        assert torch.equal(batch.edge_index[:, inside] - first, alone.edge_index)
    source, target = batch.edge_index
    assert torch.equal(batch.graph_index[source], batch.graph_index[target])
    forward = {(int(a), int(b)) for a, b in batch.edge_index.T}
    assert forward == {(b, a) for a, b in forward}
    docked = batch.edge_index[:, batch.is_connection[source]]
    assert docked.shape[1] == int(batch.is_connection.sum()) and not batch.is_connection[docked[1]].any()


def test_a_batch_of_frameworks_is_its_frameworks() -> None:
    blocks = fake_blocks()
    frameworks = fake_frameworks(blocks)
    assert blocks.embedding is not None
    batch = collate_frameworks(frameworks, blocks.embedding, np.array([5, 2]))
    for place, row in enumerate((5, 2)):
        own = batch.graph_index == place
        rows = slice(frameworks.offsets[row], frameworks.offsets[row + 1])
        assert np.allclose(batch.embedding[own], blocks.embedding[frameworks.block_index[rows]])
        assert np.allclose(batch.frac_coords[own], frameworks.frac_coords[rows])
    half = batch.edge_index.shape[1] // 2
    assert torch.equal(batch.edge_index[:, :half], batch.edge_index[:, half:].flip(0))
    assert torch.equal(batch.edge_image[:half], -batch.edge_image[half:])


def test_statistics_and_lattice_targets(folder: Path) -> None:
    statistics = CoarseStatistics.load(folder / "statistics.safetensors")
    frameworks = fake_frameworks(fake_blocks())
    assert float(statistics.count_prob.sum()) == pytest.approx(1) and statistics.max_blocks == 5
    assert np.allclose(statistics.property_mean, np.nanmean(frameworks.properties, axis=0), atol=1e-6)
    lattice, counts = torch.from_numpy(frameworks.lattice), torch.from_numpy(frameworks.num_blocks)
    again = lattice_from_target(lattice_target(lattice, counts), counts)
    assert torch.allclose(again @ again.mT, lattice @ lattice.mT, atol=1e-8)


def test_validation_batches_cover_the_set_once(folder: Path) -> None:
    config = TrainConfig(batch_size=8, validation_limit=20, max_edges=60)
    for dataset in (BlockSet.load(folder, config), FrameworkSet.load(folder, config)):
        shares = [dataset.validation_batches(rank, 2) for rank in range(2)]
        rows = [row for share in shares for batch, weight in share for row in batch.row_id.tolist() if weight]
        assert sorted(rows) == list(range(dataset.num_validation))
        assert sum(weight for share in shares for _, weight in share) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["block_encoder", "mofdiff"])
def test_training_resumes_exactly_and_loads(folder: Path, tmp_path: Path, kind: str) -> None:
    model = tiny_block_encoder() if kind == "block_encoder" else tiny_mofdiff()
    config = TrainConfig(max_steps=6, batch_size=8, warmup_steps=2, log_every=1, validate_every=3, checkpoint_every=3)
    run = PlainRun(model=model, train=config, kind=kind)
    result = train_plain(folder, tmp_path / "whole", run, "cpu")
    assert result.finished and result.num_skipped == 0 and np.isfinite(result.best_loss)
    train_plain(folder, tmp_path / "cut", replace(run, train=replace(config, max_seconds=0.0)), "cpu")
    assert train_plain(folder, tmp_path / "cut", run, "cpu").step == 6
    whole, cut = (load_file(tmp_path / name / "checkpoints/last/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(tensor, cut[name]) for name, tensor in whole.items())
    rows = [row for row in read_history(tmp_path / "whole" / "history.jsonl") if row["kind"] == "train"]
    assert len(rows) == 6 and any(key.endswith("_per_second") for key in rows[0])
    assert not load_trained(tmp_path / "whole", kind).training
