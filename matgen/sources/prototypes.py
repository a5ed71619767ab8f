"""The embedded data set: the AFLOW prototypes that ship inside pymatgen, 288 real structure types with their names.

Source: Mehl et al., Comput. Mater. Sci. 136 (2017) S1; tagged and packaged by pymatgen (MIT).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import DisorderedStructureError, SourceError, StructureError
from matgen.geometry.coordinates import wrap
from matgen.sources.rows import RawRow
from matgen.sources.species import atomic_number

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILES = ("analysis/prototypes/aflow_prototypes.json.gz", "analysis/aflow_prototypes.json")
# One prototype in eight is for validation: 36 or so of 288.
_VAL_SHARE = 8


@dataclass(frozen=True)
class PrototypeSegment:
    """The prototypes in pymatgen's order."""

    num_rows: int

    def ids(self) -> Iterator[str]:
        """AFLOW labels such as AB_hP6_154_a_b; some name two prototypes."""
        for entry in _entries():
            yield str(entry["tags"]["aflow"])

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Prototypes start to stop - 1, split by a hash of the label."""
        for entry in _entries()[start:stop]:
            tags = {key: value for key, value in entry["tags"].items() if value}
            label = str(tags.pop("aflow"))
            is_val = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") % _VAL_SHARE == 0
            try:
                structure, error = _structure(entry["snl"]), None
            except StructureError as failure:
                structure, error = None, failure
            yield RawRow(label, structure, error, tags, "val" if is_val else "train")


def open_prototypes() -> PrototypeSegment:
    """Finds the prototypes in the installed pymatgen.

    Returns:
        The segment.

    Raises:
        SourceError: this pymatgen has none, or their file is corrupt.
    """
    return PrototypeSegment(len(_entries()))


@lru_cache(maxsize=1)
def _entries() -> tuple[dict[str, Any], ...]:
    spec = find_spec("pymatgen")  # looking does not import it, which would take seconds
    folders = list(spec.submodule_search_locations or []) if spec else []
    paths = [Path(folder) / name for folder in folders for name in _FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise SourceError(
            f"the AFLOW prototypes are not in the installed pymatgen; looked for {[str(p) for p in paths]}"
        )
    try:
        raw = path.read_bytes()
        return tuple(json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw))
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from error


def _structure(snl: dict[str, Any]) -> Structure:
    for site in snl["sites"]:
        if len(site["species"]) != 1 or abs(site["species"][0]["occu"] - 1.0) > 1e-6:
            raise DisorderedStructureError(f"site {site['label']} has species {site['species']}")
    numbers = [atomic_number(site["species"][0]["element"]) for site in snl["sites"]]
    frac_coords = np.array([site["abc"] for site in snl["sites"]], dtype=float)
    return Structure(np.array(snl["lattice"]["matrix"], dtype=float), wrap(frac_coords), np.array(numbers))
