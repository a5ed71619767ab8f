"""A hypothetical framework from its recipe: PORMAKE places the blocks, and the atoms are held against the plan."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure, check
from matgen.errors import ClashError, StructureError
from matgen.geometry.coordinates import wrap
from matgen.mof.bonds import Bonds, find_bonds
from matgen.mof.decompose import DecomposeConfig, decompose
from matgen.mof.hypothetical.draw import Catalogue, Recipe
from matgen.mof.hypothetical.fit import Locator, Scaler
from matgen.mof.hypothetical.pormake import load_net, require_pormake

__all__ = ["Built", "build", "build_one"]


@dataclass(frozen=True, eq=False)
class Built:
    """What became of one framework: status "ok" and a structure, or what its last recipe was refused for."""

    net: str
    status: str = "ok"
    reason: str = ""
    recipe: Recipe | None = None
    structure: Structure | None = None
    num_builds: int = 0


def build_one(catalogue: Catalogue, rng: np.random.Generator, max_builds: int, config: DecomposeConfig) -> Built:
    """Draw a net, and recipes on it until one can be built.

    Args:
        catalogue: of blocks and nets.
        rng: of this framework; its only source of chance.
        max_builds: recipes that are built at most.
        config: of the test that the framework can be cut into nodes and linkers.

    Returns:
        The framework, or the status of the last recipe.
    """
    net = catalogue.draw_net(rng)
    recipe, failure = None, StructureError("nothing was built")
    for number in range(max_builds):
        try:
            recipe = catalogue.draw(net, rng)
        except StructureError as error:  # no other draw would be better
            return Built(net, error.status, str(error), recipe, None, number)
        try:
            return Built(net, "ok", "", recipe, build(recipe, catalogue, config), number + 1)
        except StructureError as error:
            failure = error
    return Built(net, failure.status, str(failure), recipe, None, max_builds)


def build(recipe: Recipe, catalogue: Catalogue, config: DecomposeConfig | None = None) -> Structure:
    """Place the blocks of a recipe, and refuse what is not the framework that was planned.

    Args:
        recipe: what to build.
        catalogue: with its blocks.
        config: of the test that the framework can be cut into nodes and linkers.

    Returns:
        The framework on the primitive cell of its net, not relaxed.

    Raises:
        ClashError: atoms of two blocks that no bond joins are as near as bonded ones.
        StructureError: status open_bond (atoms that a bond was to join are too far apart), not_a_net (fewer than three
            dimensions), has_solvent (pieces that hang on nothing), or a status of `decompose`.
    """
    config = config or DecomposeConfig()
    made = _placed(recipe, catalogue)
    lattice = np.array(made.atoms.cell)
    frac_coords = wrap(np.asarray(made.atoms.get_positions()) @ np.linalg.inv(lattice))
    structure = Structure(lattice, frac_coords, np.asarray(made.atoms.numbers, dtype=np.int64))
    check(structure)
    block = np.repeat(np.arange(len(made.info["located_bbs"])), _block_sizes(made.info["located_bbs"]))
    _compare(structure, block, np.asarray(made.bonds), find_bonds(structure, config.bonds))
    framework = decompose(structure, config)
    if framework.dimension < 3:
        raise StructureError(f"endless in {framework.dimension} dimensions only", status="not_a_net")
    if framework.removed_solvent:
        formulas = ", ".join(species.formula for species in framework.removed_solvent)
        raise StructureError(f"holds {formulas}, which no framework holds", status="has_solvent")
    return structure


def _placed(recipe: Recipe, catalogue: Catalogue) -> Any:
    blocks = catalogue.blocks
    vertices = {kind: blocks[name] for kind, name in recipe.vertices.items()}
    edges = {kind: blocks[name] if name else None for kind, name in recipe.edges.items()}
    builder = require_pormake().Builder(locator=Locator(), scaler=Scaler())
    try:
        return builder.build_by_type(load_net(recipe.net), vertices, edges, wrap=False)
    except Exception as error:
        if type(error) is not Exception:  # PORMAKE raises nothing narrower where a block fits unlike it did before
            raise
        raise StructureError(f"PORMAKE: {error}", status="failed") from error


def _block_sizes(placed: list[Any]) -> list[int]:
    return [0 if block is None else block.n_atoms - block.n_connection_points for block in placed]


def _compare(structure: Structure, block: np.ndarray, planned: np.ndarray, found: Bonds) -> None:
    """Bonds between blocks that distances show must be those that the net asks for."""
    wanted = _between(planned[:, 0], planned[:, 1], block)
    seen = _between(found.first, found.second, block)
    if extra := seen - wanted:
        raise ClashError(f"{len(extra)} contacts between blocks, such as {_named(structure, min(extra))}")
    if missing := wanted - seen:
        reason = f"{len(missing)} bonds between blocks are too long, such as {_named(structure, min(missing))}"
        raise StructureError(reason, status="open_bond")


def _between(first: np.ndarray, second: np.ndarray, block: np.ndarray) -> set[tuple[int, int]]:
    outer = block[first] != block[second]
    pairs = np.sort(np.stack([first[outer], second[outer]], axis=1), axis=1)
    return {(int(i), int(j)) for i, j in pairs}


def _named(structure: Structure, pair: tuple[int, int]) -> str:
    return "-".join(f"{SYMBOLS[int(structure.atomic_numbers[i])]}{i}" for i in pair)
