"""PORMAKE's nets and building blocks: read from its package, nothing written into it, the net's cell made primitive."""

import contextlib
import logging
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import ConfigError, MissingDependencyError, StructureError
from matgen.mof.primitive import reduced_primitive_cell

__all__ = ["load_blocks", "load_net", "net_names", "require_pormake"]

_EDGE_NUMBER = 60  # atomic numbers that stand for types of slots: below it vertices, from it on edges


@lru_cache(maxsize=1)
def require_pormake() -> ModuleType:
    """Import PORMAKE quietly: it opens a log file in the working directory and prints all that it does.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
            import pormake
    except ImportError as error:
        raise MissingDependencyError(
            f"building frameworks needs PORMAKE ({error}): pip install 'matgen[build]'"
        ) from error
    quiet = logging.getLogger("unique_logger")  # PORMAKE's only one
    for handler in list(quiet.handlers):
        quiet.removeHandler(handler)
        handler.close()
    quiet.setLevel(logging.CRITICAL)
    return pormake


def _database() -> Path:
    return Path(str(require_pormake().__file__)).parent / "database"


@lru_cache(maxsize=1)
def net_names() -> tuple[str, ...]:
    """Names of all nets, sorted.

    Raises:
        MissingDependencyError: PORMAKE is not installed.
    """
    return tuple(sorted(path.stem for path in (_database() / "topologies").glob("*.cgd")))


@lru_cache(maxsize=256)
def load_net(name: str) -> Any:
    """Read a net and make its cell primitive: PORMAKE's cells are conventional ones, up to four times as large.

    Args:
        name: as RCSR has it, such as pcu.

    Returns:
        A PORMAKE Topology.

    Raises:
        ConfigError: there is no such net.
        StructureError: status bad_net, PORMAKE cannot read the net.
        MissingDependencyError: PORMAKE is not installed.
    """
    pormake = require_pormake()
    path = _database() / "topologies" / f"{name}.cgd"
    if name not in net_names():
        raise ConfigError(f"there is no net {name!r}: {len(net_names())} are known, such as pcu, dia, tbo")
    try:
        net = pormake.Topology(str(path))
        _make_primitive(net)
    except Exception as error:
        if type(error) is not Exception:  # PORMAKE raises nothing narrower for a net that it cannot read
            raise
        raise StructureError(f"net {name}: {error}", status="bad_net") from error
    return net


def _make_primitive(net: Any) -> None:
    """Replace a net's cell by a primitive one, in place; nothing where it is primitive."""
    tags, connections = net.atoms.get_tags(), np.array(net.atoms.info["cn"])
    kinds = np.where(tags >= 0, tags + 1, _EDGE_NUMBER - tags)
    known = {int(kind): (int(tag), int(cn)) for kind, tag, cn in zip(kinds, tags, connections, strict=True)}
    scale = 10.0  # nets have edges of about 1; tolerances are in Å
    full = Structure(np.array(net.atoms.cell) * scale, net.atoms.get_scaled_positions(), kinds)
    small = reduced_primitive_cell(full, 0.05)
    if small.num_atoms == full.num_atoms:
        return
    from ase import Atoms

    order = np.argsort(small.atomic_numbers, kind="stable")
    rows = [known[int(kind)] for kind in small.atomic_numbers[order]]
    info = {**net.atoms.info, "cn": [cn for _, cn in rows]}
    net.atoms = Atoms(
        symbols=["C" if tag >= 0 else "O" for tag, _ in rows],
        scaled_positions=small.frac_coords[order],
        cell=small.lattice / scale,
        tags=[tag for tag, _ in rows],
        pbc=True,
        info=info,
    )
    net.update_properties()


@lru_cache(maxsize=1)
def load_blocks() -> dict[str, Any]:
    """All building blocks by name, in the order of their names.

    Returns:
        PORMAKE BuildingBlocks; X atoms are connection points.

    Raises:
        MissingDependencyError: PORMAKE is not installed.
    """
    pormake = require_pormake()
    paths = sorted((_database() / "bbs").glob("*.xyz"))
    return {path.stem: pormake.BuildingBlock(str(path)) for path in paths}
