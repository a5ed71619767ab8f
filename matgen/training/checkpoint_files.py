"""Files of a checkpoint: tensors and JSON, links that change at once, and what reaches the disk before a rename."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from matgen.errors import CheckpointError

__all__ = ["link", "load_json", "load_tensors", "prune", "save_tensors", "sync", "sync_one"]


def save_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file that others may read too."""
    # written here rather than by safetensors, which makes files that only their owner may read
    file.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises CheckpointError where it is missing or corrupt."""
    try:
        return load_file(str(file))
    except (OSError, SafetensorError) as error:
        reason = "is missing" if not file.exists() else f"is corrupt ({error})"
        raise CheckpointError(f"{file}: {reason}") from error


def load_json(file: Path) -> Any:
    """Read JSON; raises CheckpointError where it is missing or none."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        reason = "is missing" if not file.exists() else f"is not JSON ({error})"
        raise CheckpointError(f"{file}: {reason}") from error


def link(folder: Path, name: str, target: str) -> None:
    """Point a link of the folder to a directory in it, in one step."""
    aside = folder / f".{name}.partial"
    aside.unlink(missing_ok=True)
    aside.symlink_to(target)
    aside.replace(folder / name)


def prune(folder: Path) -> None:
    """Remove the checkpoints that no link says to keep."""
    kept = {(folder / name).resolve() for name in ("last", "best")}
    for directory in [*folder.glob("step-*"), *folder.glob(".step-*.partial")]:
        if directory.resolve() not in kept:
            shutil.rmtree(directory, ignore_errors=True)


def sync(directory: Path) -> None:
    """Wait until the files of a directory and itself are on the disk."""
    for file in directory.iterdir():
        sync_one(file)
    sync_one(directory)


def sync_one(path: Path) -> None:
    """Wait until a file, or a directory's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
