"""The name of a framework does not depend on how it is written down, and differs where the framework does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.evaluation.mof_identity import _index, framework_identity, num_nets
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework

STRUCTURES = Path(__file__).parents[1] / "mof" / "structures"
NAMES = ("mof5", "hkust1", "uio66", "mof74", "mil53", "pillared")


def load(name: str) -> Structure:
    return parse_cif((STRUCTURES / f"{name}.cif").read_text())


@pytest.fixture(scope="module")
def frameworks() -> dict[str, Framework]:
    return {name: decompose(load(name)) for name in NAMES}


def reordered(framework: Framework, order: list[int]) -> Framework:
    """The same framework with its blocks in another order and moved by whole cells."""
    rng = np.random.default_rng(0)
    starts = np.cumsum([0, *(block.num_connections for block in framework.blocks)])
    places = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    back = np.argsort(places)
    moved = rng.integers(-1, 2, size=(framework.num_blocks, 3))
    owner = framework.block_of_connection[framework.pairs]
    return replace(
        framework,
        frac_coords=(framework.frac_coords + moved)[order],
        blocks=tuple(framework.blocks[i] for i in order),
        pairs=back[framework.pairs],
        pair_image=framework.pair_image + moved[owner[:, 0]] - moved[owner[:, 1]],
    )


def doubled(framework: Framework, axis: int) -> Framework:
    """The same framework in a cell of twice the length."""
    num = framework.num_connections
    lattice, step = framework.lattice.copy(), np.eye(3, dtype=int)[axis]
    lattice[axis] *= 2
    scale = np.where(step, 2, 1)
    pairs, images = [], []
    for copy in range(2):
        target = framework.pair_image[:, axis] + copy
        pairs.append(np.stack([framework.pairs[:, 0] + copy * num, framework.pairs[:, 1] + (target % 2) * num], axis=1))
        image = framework.pair_image.copy()
        image[:, axis] = target // 2
        images.append(image)
    frac = np.concatenate([framework.frac_coords / scale, (framework.frac_coords + step) / scale])
    return Framework(lattice, frac, framework.blocks * 2, np.concatenate(pairs), np.concatenate(images))


def test_different_frameworks_have_different_names(frameworks):
    assert len({framework_identity(f) for f in frameworks.values()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_name_is_independent_of_order_origin_and_cell(frameworks, name):
    framework = frameworks[name]
    order = np.random.default_rng(1).permutation(framework.num_blocks).tolist()
    expected = framework_identity(framework)
    assert framework_identity(reordered(framework, order)) == expected
    for axis in range(3):
        assert framework_identity(doubled(framework, axis)) == expected


def test_name_is_independent_of_conformers_and_of_the_geometry(frameworks):
    framework = frameworks["mof5"]
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    blocks = tuple(block.rotated(turn) for block in framework.blocks)
    strained = replace(framework, lattice=framework.lattice * 1.05, blocks=blocks)
    assert framework_identity(strained) == framework_identity(framework)


def test_another_linker_or_net_has_another_name(frameworks):
    framework = frameworks["mof5"]
    expected = framework_identity(framework)
    linker = max(range(framework.num_blocks), key=lambda i: framework.blocks[i].role == "linker")
    other = framework.blocks[linker]
    changed = replace(other, atomic_numbers=np.where(other.atomic_numbers == 1, 9, other.atomic_numbers))
    blocks = tuple(changed if i == linker else block for i, block in enumerate(framework.blocks))
    assert framework_identity(replace(framework, blocks=blocks)) != expected
    # the same blocks with the same number of bonds each, joined to other images: another net
    image = framework.pair_image.copy()
    image[framework.block_of_connection[framework.pairs[:, 1]] == linker] = 0
    assert framework_identity(replace(framework, pair_image=image)) != expected


def test_interpenetrated_nets_are_counted(frameworks):
    framework = frameworks["mof5"]
    assert num_nets(framework) == 1
    shift = framework.num_connections
    two = Framework(
        framework.lattice,
        np.concatenate([framework.frac_coords, (framework.frac_coords + 0.25) % 1.0]),
        framework.blocks * 2,
        np.concatenate([framework.pairs, framework.pairs + shift]),
        np.concatenate([framework.pair_image] * 2),
    )
    assert num_nets(two) == 2
    assert framework_identity(two) != framework_identity(framework)
    # one component whose own translations are only every second cell stands for two nets
    assert num_nets(replace(framework, pair_image=framework.pair_image * np.array([2, 1, 1]))) == 2
    assert num_nets(doubled(framework, 0)) == 1


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 1),
        ([[2, 0, 0], [0, 3, 0], [0, 0, 1]], 6),
        ([[1, 1, 0], [1, -1, 0], [0, 0, 1]], 2),
        ([[4, 2, 0], [6, 0, 0], [0, 2, 2], [0, 0, 2]], 4 * 2),
        ([[1, 0, 0], [0, 1, 0]], 1),
    ],
)
def test_index_of_a_sublattice(rows, index):
    vectors = np.array(rows)
    if len(rows) == 4:  # the greatest common divisor of the 3 x 3 minors
        minors = [abs(round(np.linalg.det(np.delete(vectors, i, axis=0)))) for i in range(4)]
        index = int(np.gcd.reduce(minors))
    assert _index(vectors) == index
