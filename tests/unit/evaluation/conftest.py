"""Small real structures (AFLOW prototypes), and tables made of them."""

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.population import EvaluationConfig, References
from matgen.evaluation.scores import score_structures
from matgen.sources.prototypes import open_prototypes


@pytest.fixture(scope="session")
def prototypes() -> dict[str, Structure]:
    """Prototypes of at most 14 atoms and elements up to plutonium, by AFLOW label."""
    rows = open_prototypes().read(0, 10_000)
    found = {row.id: row.structure for row in rows if row.structure is not None}
    return {label: s for label, s in found.items() if s.num_atoms <= 14 and s.atomic_numbers.max() <= 94}


@pytest.fixture(scope="session")
def structures(prototypes) -> list[Structure]:
    return list(prototypes.values())


@pytest.fixture(scope="session")
def rock_salt() -> Structure:
    """NaCl, conventional cell, a = 5.64 Å."""
    face_centres = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    frac_coords = np.concatenate([face_centres, face_centres + np.array([0.5, 0, 0])]) % 1
    return Structure(np.eye(3) * 5.64, frac_coords, np.array([11] * 4 + [17] * 4))


@pytest.fixture(scope="session")
def quick_config() -> EvaluationConfig:
    return EvaluationConfig(bootstrap=BootstrapConfig(num_resamples=50))


@pytest.fixture(scope="session")
def references(structures) -> References:
    train, test = score_structures(structures[::2]), score_structures(structures[1::2])
    return References(train_name="prototypes A", train=train, test_name="prototypes B", test=test)
