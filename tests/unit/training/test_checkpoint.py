import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from matgen.data.priors import Priors
from matgen.errors import CheckpointError
from matgen.models.symmcd import SymmCD, SymmCDConfig
from matgen.settings import from_dict, to_dict
from matgen.training.checkpoint import (
    content_hash,
    find_checkpoint,
    load_model,
    publish,
    restore,
    save_checkpoint,
)
from matgen.training.optimizer import Ema, build_optimizer
from matgen.training.state import TrainState


def build(config, constants):
    return SymmCD(from_dict(SymmCDConfig, config), Priors.load(constants))


def make_state(model) -> TrainState:
    return TrainState(model=model, optimizer=build_optimizer(model, 0.01, (0.9, 0.999), 0.0), ema=Ema(model, 0.9))


def exercise(state: TrainState, steps: int = 3) -> None:
    for _ in range(steps):
        for parameter in state.model.parameters():
            parameter.grad = torch.sin(parameter.detach() * 50 + state.step)
        state.optimizer.step()
        state.ema.update(state.model)
        state.step += 1


@pytest.fixture
def saved(tiny, tiny_config, priors, tmp_path):
    state = make_state(tiny)
    exercise(state)
    state.best_step, state.best_loss, state.window = 2, 0.1 + 0.2, {"total": 1 / 3}
    return save_checkpoint(tmp_path / "checkpoints", state, priors, {"model": to_dict(tiny_config)}, best=True), state


def test_restored_state_goes_on_exactly_as_the_saved_one(saved, tiny_config, priors):
    path, state = saved
    torch.manual_seed(99)
    other = make_state(SymmCD(tiny_config, priors))
    restore(path, other, {"model": to_dict(tiny_config)})
    assert other.counters() == state.counters()
    exercise(state)
    exercise(other)
    for (name, first), second in zip(state.model.named_parameters(), other.model.parameters()):
        assert torch.equal(first, second), name
        assert torch.equal(state.ema.weights[name], other.ema.weights[name]), name


def test_nothing_but_safetensors_and_json(saved):
    path, _ = saved
    names = sorted(file.name for file in path.iterdir())
    assert names == [
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "priors.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    for file in path.iterdir():
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            load_file(file)


def test_last_and_best_are_kept_and_others_removed(tiny, tiny_config, priors, tmp_path):
    state, config = make_state(tiny), {"model": to_dict(tiny_config)}
    folder = tmp_path / "checkpoints"
    (folder / ".step-00000077.partial").mkdir(parents=True)
    for best in (False, True, False, False):
        exercise(state, 1)
        save_checkpoint(folder, state, priors, config, best)
    assert sorted(p.name for p in folder.iterdir()) == ["best", "last", "step-00000002", "step-00000004"]
    assert (folder / "best").resolve().name == "step-00000002" and (folder / "last").resolve().name == "step-00000004"
    assert find_checkpoint(tmp_path).resolve().name == "step-00000002"


def test_model_from_checkpoint_has_the_averaged_weights(saved):
    path, state = saved
    model = load_model(path.parent, "symmcd", build)
    assert not model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state.ema.weights[name]), name
    raw = load_model(path, "symmcd", build, raw=True)
    assert all(torch.equal(a, b) for a, b in zip(raw.parameters(), state.model.parameters()))


def test_published_form_is_small_and_loads(saved, tmp_path):
    path, state = saved
    out = publish(path, tmp_path / "shipped", "# A model\n")
    assert sorted(file.name for file in out.iterdir()) == [
        "MODEL_CARD.md",
        "config.json",
        "priors.safetensors",
        "weights.safetensors",
    ]
    assert (out / "weights.safetensors").stat().st_size < 0.55 * (path / "weights.safetensors").stat().st_size
    for name, parameter in load_model(out, "symmcd", build).named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.allclose(parameter, state.ema.weights[name], atol=1e-3), name
    full = publish(path, tmp_path / "full", "", half=False)
    assert content_hash(full) == content_hash(path) != content_hash(out)


def test_content_hash_changes_with_weights_priors_and_configuration(saved, tmp_path):
    path, _ = saved
    hashes = {content_hash(path)}
    for name in ("weights", "priors"):
        copy = tmp_path / name
        shutil.copytree(path, copy)
        tensors = load_file(copy / f"{name}.safetensors")
        key = next(key for key in tensors if tensors[key].is_floating_point())
        save_file({**tensors, key: tensors[key] + 1e-3}, copy / f"{name}.safetensors")
        hashes.add(content_hash(copy))
    copy = tmp_path / "config"
    shutil.copytree(path, copy)
    config = json.loads((copy / "config.json").read_text())
    config["model"]["weights"]["coords"] = 77.0
    (copy / "config.json").write_text(json.dumps(config))
    assert len(hashes | {content_hash(copy)}) == 4
    config["train"] = {"note": "of no consequence"}
    config["model"]["weights"]["coords"] = 2.0
    (copy / "config.json").write_text(json.dumps(config))
    assert content_hash(copy) == content_hash(path)


@pytest.mark.parametrize("name", ["weights", "model", "optimizer", "priors", "config", "state"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damage_is_one_clear_line(saved, tiny_config, priors, name, damage):
    path, _ = saved
    file = next(path.glob(f"{name}.*"))
    match damage:
        case "missing":
            file.unlink()
        case "truncated":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        case "garbage":
            file.write_bytes(b"\x80\x04\x95" + b"pickle" * 50)
    with pytest.raises(CheckpointError) as caught:
        if name == "priors":
            load_model(path, "symmcd", build)
        else:
            restore(path, make_state(SymmCD(tiny_config, priors)), {"model": to_dict(tiny_config)})
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_another_model_is_refused_with_the_difference(saved, tiny_config, priors):
    path, _ = saved
    wider = replace(tiny_config, network=replace(tiny_config.network, hidden=32))
    with pytest.raises(CheckpointError, match="network: hidden: 24 there, 32 here"):
        restore(path, make_state(SymmCD(wider, priors)), {"model": to_dict(wider)})
    config = json.loads((path / "config.json").read_text())
    config["model"]["network"]["hidden"] = 32
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="has shape"):
        load_model(path, "symmcd", build)


def test_a_checkpoint_of_another_kind_is_refused(saved, tiny_config, priors):
    path, _ = saved
    assert "kind" not in json.loads((path / "config.json").read_text()), "as the first checkpoints were"
    with pytest.raises(CheckpointError, match="symmcd, not mofdiff"):
        load_model(path, "mofdiff", build)
    with pytest.raises(CheckpointError, match="symmcd, not mofdiff"):
        restore(path, make_state(SymmCD(tiny_config, priors)), {"model": to_dict(tiny_config), "kind": "mofdiff"})


def test_a_model_without_constants(tmp_path):
    state = make_state(torch.nn.Linear(2, 3))
    path = save_checkpoint(tmp_path / "checkpoints", state, None, {"kind": "line", "model": {"out": 3}}, best=False)
    assert not (path / "priors.safetensors").exists()
    built = load_model(
        path, "line", lambda config, constants: torch.nn.Linear(2, config["out"]) if constants is None else None
    )
    assert torch.equal(built.weight, state.ema.weights["weight"])
    assert content_hash(publish(path, tmp_path / "full", "", half=False)) == content_hash(path)


def test_absent_and_foreign_paths(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        find_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 99, "model": {}}')
    with pytest.raises(CheckpointError, match="format 99"):
        load_model(tmp_path, "symmcd", build)


def test_full_disk_leaves_the_old_checkpoint(saved, tiny_config, priors, monkeypatch):
    path, state = saved
    before = sorted(p.name for p in path.parent.iterdir())
    exercise(state)
    from pathlib import Path

    original = Path.write_bytes

    def full(self, data):
        if self.name == "optimizer.safetensors":
            original(self, data[:100])
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(path.parent, state, priors, {"model": to_dict(tiny_config)}, best=True)
    assert sorted(p.name for p in path.parent.iterdir()) == before
    monkeypatch.undo()
    load_model(path, "symmcd", build)
