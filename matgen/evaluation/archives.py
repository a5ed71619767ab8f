"""Arrays in .npz files that are whole or absent, however many runs write to one cache."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write aside, under a name of this call alone, and rename; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.part.npz")
    try:
        np.savez(aside, **arrays)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
