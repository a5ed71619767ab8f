"""Extended XYZ: one frame of text to a structure, and back. Frames without a Lattice are no crystals: refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import NonFiniteStructureError, UnreadableStructureError
from matgen.geometry.coordinates import wrap
from matgen.sources.species import atomic_number

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAIR = re.compile(r"([A-Za-z_][\w\-./]*)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|\{([^}]*)\}|(\S+))")
_DEFAULT_COLUMNS = "species:S:1:pos:R:3"


def parse_extxyz_frame(text: str) -> tuple[Structure, dict[str, object]]:
    """Reads one frame.

    Args:
        text: the atom count, the comment line with Lattice="..." and Properties=..., and the atoms.

    Returns:
        The structure and the frame's other scalar values.

    Raises:
        UnreadableStructureError: no cell, or a line is not what its header promises.
        NonFiniteStructureError: a number is not finite or the cell has no volume.
    """
    lines = text.strip("\n").splitlines()
    if len(lines) < 3 or not lines[0].strip().isdecimal():
        found = lines[0].strip()[:60] if lines else ""
        raise UnreadableStructureError(f"a frame starts with its number of atoms, found {found!r}")
    total = int(lines[0])
    atoms = [line.split() for line in lines[2 : 2 + total]]
    if len(atoms) != total or total == 0:
        raise UnreadableStructureError(f"{total} atoms announced, {len(atoms)} atom lines follow")
    values = {key: next((v for v in rest if v), "") for key, *rest in _PAIR.findall(lines[1])}
    lattice = _lattice(values)
    species, position = _columns(values.pop("Properties", values.pop("properties", _DEFAULT_COLUMNS)))
    try:
        cart_coords = np.array([list(map(float, words[position : position + 3])) for words in atoms])
        numbers = np.array([_species(words[species]) for words in atoms])
    except (ValueError, IndexError) as error:
        raise UnreadableStructureError(f"an atom line does not fit its header: {error}") from None
    if cart_coords.shape != (total, 3):
        raise UnreadableStructureError(f"positions have {cart_coords.shape} numbers instead of {(total, 3)}")
    if not np.isfinite(cart_coords).all():
        raise NonFiniteStructureError("a coordinate is not finite")
    coords = np.linalg.solve(lattice.T, cart_coords.T).T
    structure = Structure(lattice=lattice, frac_coords=wrap(coords), atomic_numbers=numbers)
    return structure, {key: _scalar(value) for key, value in values.items() if key not in {"Lattice", "lattice", "pbc"}}


def write_extxyz_frame(structure: Structure, properties: Mapping[str, object] | None = None) -> str:
    """Writes one frame.

    Args:
        structure: the structure.
        properties: scalars for the comment line.

    Returns:
        The text, ending in a newline.
    """
    cell = " ".join(f"{entry:.12f}" for entry in structure.lattice.reshape(-1).tolist())
    pairs = [f'Lattice="{cell}"', "Properties=species:S:1:pos:R:3", 'pbc="T T T"']
    for key, value in (properties or {}).items():
        text = " ".join(str(value).replace('"', "'").split())
        if value is not None and text:
            pairs.append(f'{re.sub(r"[^A-Za-z0-9_]", "_", key)}="{text}"')
    lines = [str(len(structure.atomic_numbers)), " ".join(pairs)]
    cart_coords = structure.frac_coords @ structure.lattice
    for number, (x, y, z) in zip(structure.atomic_numbers.tolist(), cart_coords.tolist()):
        lines.append(f"{SYMBOLS[number]} {x:.12f} {y:.12f} {z:.12f}")
    return "\n".join(lines) + "\n"


def _lattice(values: dict[str, str]) -> np.ndarray:
    text = values.get("Lattice", values.get("lattice"))
    if text is None:
        raise UnreadableStructureError('no Lattice="..." in the comment line: a molecule, not a crystal')
    try:
        lattice = np.array([float(word) for word in text.split()]).reshape(3, 3)
    except ValueError:
        raise UnreadableStructureError(f"Lattice should hold 9 numbers: {text[:80]!r}") from None
    if not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1e-6:
        raise NonFiniteStructureError(f"the cell vectors span no volume: {lattice.tolist()}")
    return lattice


def _columns(text: str) -> tuple[int, int]:
    """Where the species and the position start in an atom line."""
    words = text.split(":")
    starts: dict[str, int] = {}
    position = 0
    for name, width in zip(words[0::3], words[2::3]):
        starts[name.lower()] = position
        position += int(width) if width.isdecimal() else 1
    species = next((starts[name] for name in ("species", "element", "symbols", "z", "numbers") if name in starts), None)
    where = next((starts[name] for name in ("pos", "positions") if name in starts), None)
    if species is None or where is None:
        raise UnreadableStructureError(f"Properties names no species and pos: {text[:80]!r}")
    return species, where


def _species(word: str) -> int:
    return int(word) if word.isdecimal() else atomic_number(word)


def _scalar(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
