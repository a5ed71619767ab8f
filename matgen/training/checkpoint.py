"""Checkpoints: directories of safetensors and JSON, written aside and renamed; nothing in them is ever unpickled.

`step-00001000/` holds weights.safetensors (averaged), model.safetensors (raw), optimizer.safetensors,
config.json and state.json, and where a model has constants of its training set, priors.safetensors (crystals) or
statistics.safetensors (frameworks); the links `last` and `best` beside it say which directories count, all
others are removed.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from matgen.errors import CheckpointError
from matgen.training.checkpoint_files import (
    link,
    load_json,
    load_tensors,
    prune,
    save_tensors,
    sync,
    sync_one,
)
from matgen.training.dataset import Constants
from matgen.training.state import TrainState, optimizer_tensors, set_optimizer_tensors

WEIGHTS, RAW, OPTIMIZER = (f"{name}.safetensors" for name in ("weights", "model", "optimizer"))
CONFIG, STATE, CARD = "config.json", "state.json", "MODEL_CARD.md"
FORMAT = 1
_FIRST_KIND, _FIRST_CONSTANTS = "symmcd", "priors.safetensors"  # what a config.json that says neither means


def save_checkpoint(
    folder: Path, state: TrainState, constants: Constants | None, config: dict[str, Any], best: bool
) -> Path:
    """Write the state of a run and make it the last one.

    Args:
        folder: holds the checkpoints of one run; made if absent.
        state: what to save.
        constants: of the training set, where the model has any.
        config: JSON values; `config["model"]` is the model's configuration, `config["kind"]` says of which model.
        best: whether it is also the best one so far.

    Returns:
        The new directory.

    Raises:
        CheckpointError: if it cannot be written (a full disk); what was there before stays intact.
    """
    final = folder / f"step-{state.step:08d}"
    aside = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        save_tensors(aside / WEIGHTS, state.ema.weights | _buffers(state.model))
        save_tensors(aside / RAW, dict(state.model.named_parameters()) | _buffers(state.model))
        save_tensors(aside / OPTIMIZER, optimizer_tensors(state))
        if constants is not None:
            constants.save(aside / constants.file_name)
        named = {"constants": None if constants is None else constants.file_name}
        (aside / CONFIG).write_text(json.dumps({"format": FORMAT, **named, **config}, indent=1))
        (aside / STATE).write_text(json.dumps(state.counters(), indent=1))
        sync(aside)
        shutil.rmtree(final, ignore_errors=True)
        aside.rename(final)
        link(folder, "last", final.name)
        if best:
            link(folder, "best", final.name)
        sync_one(folder)
        prune(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(f"{final}: cannot be written ({error})") from error
    return final


def find_checkpoint(path: Path | str) -> Path:
    """Return the checkpoint directory that a user's path means.

    Args:
        path: a checkpoint, or a folder of checkpoints (its best, else its last), or a run that has `checkpoints/`.

    Returns:
        A directory with a config.json.

    Raises:
        CheckpointError: if there is none.
    """
    base = Path(path)
    for candidate in (base, base / "best", base / "last", base / "checkpoints/best", base / "checkpoints/last"):
        if (candidate / CONFIG).is_file():
            return candidate
    raise CheckpointError(f"{path}: no checkpoint here (no {CONFIG}, best/, last/ or checkpoints/)")


def restore(path: Path, state: TrainState, config: dict[str, Any]) -> None:
    """Load a training checkpoint into a state made with the same configuration.

    Args:
        path: checkpoint directory.
        state: freshly made; its model, optimiser, average and counters are replaced.
        config: of the present run; its `model` and `kind` must be the checkpoint's.

    Raises:
        CheckpointError: if a file is missing or corrupt, or it belongs to another model.
    """
    saved = read_config(path)
    _require_kind(path, saved, config.get("kind", _FIRST_KIND))
    if saved.get("model") != json.loads(json.dumps(config.get("model"))):
        raise CheckpointError(
            f"{path}: belongs to another model: {_difference(saved.get('model'), config.get('model'))}"
        )
    load_weights(state.model, path / RAW)
    averages = load_tensors(path / WEIGHTS)
    missing = sorted(set(state.ema.weights) - set(averages))
    if missing:
        raise CheckpointError(f"{path / WEIGHTS}: tensor {missing[0]} is missing")
    for name, weight in state.ema.weights.items():
        weight.copy_(averages[name])
    try:
        set_optimizer_tensors(state, load_tensors(path / OPTIMIZER))
        state.set_counters(load_json(path / STATE))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: optimizer or state does not belong to this model ({error!r})") from error


def load_model(
    path: Path | str, kind: str, build: Callable[[dict[str, Any], Path | None], nn.Module], raw: bool = False
) -> nn.Module:
    """Make a model from a checkpoint, published or not.

    Args:
        path: see `find_checkpoint`.
        kind: of the model.
        build: makes the model from its configuration (JSON values) and the file of its constants, if it has one.
        raw: take the raw weights instead of the averaged ones.

    Returns:
        The model in evaluation mode, float32, on the CPU.

    Raises:
        CheckpointError: if a file is missing or corrupt, it is of another kind, or tensors do not fit.
    """
    directory = find_checkpoint(path)
    config = read_config(directory)
    _require_kind(directory, config, kind)
    model = build(config["model"], _constants_file(directory, config))
    load_weights(model, directory / (RAW if raw else WEIGHTS))
    return model.eval()


def read_config(path: Path | str) -> dict[str, Any]:
    """Return the config.json of a checkpoint directory; raises CheckpointError if it is unreadable or too new."""
    config = load_json(Path(path) / CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise CheckpointError(f"{path}: {CONFIG} has no model configuration")
    if config.get("format") != FORMAT:
        raise CheckpointError(f"{path}: checkpoint format {config.get('format')!r}, this version reads {FORMAT}")
    return config


def load_weights(model: nn.Module, file: Path) -> None:
    """Copy a safetensors file into a model whose parameters and buffers it must name, all of them, in their shapes."""
    tensors = load_tensors(file)
    wanted = dict(model.named_parameters()) | _buffers(model)
    if set(tensors) != set(wanted):
        missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
        raise CheckpointError(f"{file}: tensors missing {missing[:3]}, unknown {unknown[:3]}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model needs {tuple(wanted[name].shape)}"
            raise CheckpointError(f"{file}: {name} has shape {shapes}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            wanted[name].copy_(tensor)


def content_hash(path: Path | str) -> str:
    """Return a SHA-256 of what determines samples: averaged weights, constants, and the model's configuration."""
    directory = find_checkpoint(path)
    config = read_config(directory)
    digest = hashlib.sha256(json.dumps(config["model"], sort_keys=True).encode())
    for path_ in (directory / WEIGHTS, _constants_file(directory, config)):
        if path_ is None:
            continue
        try:
            with path_.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CheckpointError(f"{path_}: {error.strerror}") from error
    return digest.hexdigest()


def publish(path: Path | str, out: Path | str, card: str, half: bool = True) -> Path:
    """Write the small form that is shipped: averaged weights, constants, configuration and model card.

    Args:
        path: see `find_checkpoint`.
        out: new directory.
        card: text of MODEL_CARD.md.
        half: store weights as float16 (models are float32 once loaded).

    Returns:
        The directory.

    Raises:
        CheckpointError: if the source is unreadable, a weight does not fit into float16, or out cannot be written.
    """
    source, target = find_checkpoint(path), Path(out)
    weights = load_tensors(source / WEIGHTS)
    if half:
        weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        unfit = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
        if unfit:
            raise CheckpointError(f"{source / WEIGHTS}: {unfit[0]} does not fit into float16")
    config = read_config(source)
    constants = _constants_file(source, config)
    aside = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_tensors(aside / WEIGHTS, weights)
        if constants is not None:
            save_tensors(aside / constants.name, load_tensors(constants))
        (aside / CONFIG).write_text(json.dumps(config, indent=1))
        (aside / CARD).write_text(card)
        sync(aside)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(f"{target}: cannot be written ({error})") from error
    return target


def repair_best(folder: Path, step: int | None) -> None:
    """Point `best` to the directory of that step, if a crash came between the two links of one save."""
    name = f"step-{step or 0:08d}"
    if step is not None and (folder / name).is_dir() and (folder / "best").resolve() != (folder / name).resolve():
        link(folder, "best", name)


def _require_kind(path: Path, saved: dict[str, Any], wanted: str) -> None:
    kind = saved.get("kind", _FIRST_KIND)
    if kind != wanted:
        raise CheckpointError(f"{path}: belongs to another model: {kind}, not {wanted}")


def _constants_file(directory: Path, config: dict[str, Any]) -> Path | None:
    name = config.get("constants", _FIRST_CONSTANTS)
    return None if name is None else directory / Path(name).name


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    persistent = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in model.named_buffers() if name in persistent}


def _difference(saved: Any, present: Any) -> str:
    if isinstance(saved, dict) and isinstance(present, dict):
        for key in sorted(set(saved) | set(present)):
            if saved.get(key) != present.get(key):
                return f"{key}: {_difference(saved.get(key), present.get(key))}"
    return f"{saved!r} there, {present!r} here"
