"""Two processes that exchange gradients do what one process does (gloo, without Ray)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file

from matgen.data.priors import Priors
from matgen.data.records import Records
from matgen.settings import to_dict
from matgen.training.history import TIMING, read_history
from matgen.training.run import PlainRun, make_trainer, train_plain
from matgen.training.step import Workers


def rank_main(rank: int, world_size: int, folder: Path, out: Path, run: PlainRun) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{out}.rendezvous", rank=rank, world_size=world_size)
    workers = Workers(rank, world_size)
    assert workers.sum({"a": 1.0, "b": float(rank)}) == {"a": 2.0, "b": 1.0}
    trainer = make_trainer(folder, out, run, workers=workers)
    if rank == 1 and trainer.state.step == 0:
        trainer.stop_requested = True  # one worker's wish stops all, at the same step
    trainer.run()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(
    tmp_path: Path, tiny_config, train_config, priors: Priors, fake_records: Records, fake_validation: Records
) -> None:
    fake_records.save(tmp_path / "train.safetensors")
    fake_validation.save(tmp_path / "val.safetensors")
    priors.save(tmp_path / "priors.safetensors")
    config = replace(train_config, max_steps=8, log_every=1, validate_every=4, batch_size=9, learning_rate=1e-3)
    run = PlainRun(model=tiny_config, train=config)
    train_plain(tmp_path, tmp_path / "one", run, "cpu")
    for step in (1, 8):
        torch.multiprocessing.spawn(rank_main, (2, tmp_path, tmp_path / "two", run), nprocs=2)
        Path(f"{tmp_path}/two.rendezvous").unlink(missing_ok=True)
        assert (tmp_path / "two/checkpoints/last").resolve().name == f"step-{step:08d}"
    one, two = (read_history(tmp_path / name / "history.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 10
    for first, second in zip(one, two):
        assert first["kind"] == second["kind"]
        for name in first.keys() - {*TIMING, "kind"}:
            assert second[name] == pytest.approx(first[name], rel=1e-3), (first["step"], name)
    weights = [load_file(tmp_path / name / "checkpoints/last/weights.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-4), name
    assert to_dict(run.train)["batch_size"] % 2 == 1, "the halves of a step are unequal: their weights matter"
