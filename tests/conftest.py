"""Shapes are checked in every test: jaxtyping annotations of matgen are enforced by beartype."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

CHECKED = ["matgen.geometry", "matgen.diffusion", "matgen.nn", "matgen.models", "matgen.data"]
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets named by MATGEN_DATA; tests that need it are skipped where it is absent."""
    value = os.environ.get("MATGEN_DATA", "")
    if not value or not Path(value).is_dir():
        pytest.skip("MATGEN_DATA is not set: real data sets are absent (not run)")
    return Path(value)
