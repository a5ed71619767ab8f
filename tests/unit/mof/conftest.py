"""Real frameworks in their primitive cells, embedded so that no data set is needed."""

from pathlib import Path

import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure

STRUCTURES = Path(__file__).parent / "structures"


def load(name: str) -> Structure:
    return parse_cif((STRUCTURES / f"{name}.cif").read_text())


@pytest.fixture(scope="session")
def mof5() -> Structure:
    return load("mof5")
