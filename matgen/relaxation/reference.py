"""Energies of a reference set for its hull: cut into parts, each computed once, kept, and resumed.

Every entry gets its energy as it is. Those near the hull of these energies are relaxed: a hull of unrelaxed crystals
would flatter relaxed samples. Parts are parquet files, written aside and renamed, under a key of the potential, the
relaxation and the entries, so that another potential or another set never meets them.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.errors import SourceError
from matgen.relaxation.hull import Calibration, Hull, calibrate
from matgen.relaxation.optimizer import RelaxConfig, energies, relax
from matgen.relaxation.potential import Potential
from matgen.relaxation.reference_set import ReferenceEntry, open_parquet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HullConfig:
    """window eV/atom: entries this close to the hull of unrelaxed energies are relaxed. part_size: entries per file."""

    window: float = 0.2
    part_size: int = 512
    relax: RelaxConfig = field(default_factory=lambda: RelaxConfig(max_steps=100, max_volume_change=2.5))


@dataclass(frozen=True)
class Part:
    """A unit of work: `kind` is "static" or "relaxed", `index` numbers the file."""

    kind: str
    index: int
    entries: tuple[ReferenceEntry, ...]


PartMapper = Callable[[Sequence[Part]], Iterable[tuple[Part, pa.Table]]]


def static_table(entries: Sequence[ReferenceEntry], potential: Potential) -> pa.Table:
    """Energies of entries as they are, one row each, with status and reason."""
    answers = energies([entry.structure for entry in entries], potential)
    return pa.table(
        {
            **_identity_columns(entries),
            "energy_per_atom": [answer.energy_per_atom for answer in answers],
            "status": [answer.status for answer in answers],
            "reason": [answer.reason for answer in answers],
        }
    )


def relaxed_table(entries: Sequence[ReferenceEntry], potential: Potential, config: RelaxConfig) -> pa.Table:
    """Relaxed energies of entries: as `static_table`, with num_steps, rmsd (Å), volume_ratio; NaN energy on failure."""
    results = relax([entry.structure for entry in entries], potential, config)
    return pa.table(
        {
            **_identity_columns(entries),
            "energy_per_atom": [r.energy_per_atom if r.usable else float("nan") for r in results],
            "status": [r.status for r in results],
            "reason": [r.reason for r in results],
            "num_steps": [r.num_steps for r in results],
            "rmsd": [r.rmsd for r in results],
            "volume_ratio": [r.volume_ratio for r in results],
        }
    )


def _identity_columns(entries: Sequence[ReferenceEntry]) -> dict[str, pa.Array]:
    return {
        "material_id": pa.array([entry.material_id for entry in entries], pa.string()),
        "split": pa.array([entry.split for entry in entries], pa.string()),
        "label_e_above_hull": pa.array([entry.e_above_hull for entry in entries], pa.float64()),
        "atomic_numbers": pa.array([e.structure.atomic_numbers.tolist() for e in entries], pa.list_(pa.int16())),
    }


def part_table(part: Part, potential: Potential, config: HullConfig) -> pa.Table:
    """The table of one part: what a worker runs."""
    if part.kind == "static":
        return static_table(part.entries, potential)
    return relaxed_table(part.entries, potential, config.relax)


def build_hull(
    entries: Sequence[ReferenceEntry],
    potential: Potential,
    config: HullConfig,
    cache_dir: Path,
    map_parts: PartMapper | None = None,
) -> "ReferenceHull":
    """The hull of a reference set, from kept parts where there are any.

    Args:
        entries: the reference set.
        potential: one potential for all.
        config: window, part size, relaxation.
        cache_dir: where parts are kept, under a key of their own.
        map_parts: how parts are computed, in any order; here and now where None. It must give what `part_table` gives.

    Returns:
        Hull and tables; sizes are logged.
    """
    directory = cache_dir / reference_key(entries, potential, config)
    mapper = map_parts or (lambda parts: ((part, part_table(part, potential, config)) for part in parts))
    size = config.part_size
    chunks = [tuple(entries[start : start + size]) for start in range(0, len(entries), size)]
    static_parts = [Part("static", index, chunk) for index, chunk in enumerate(chunks)]
    static = _computed(static_parts, directory / "static", mapper)
    near = _near_hull(static, config.window)
    relaxed_parts = [
        Part("relaxed", index, tuple(e for e in chunk if e.material_id in near)) for index, chunk in enumerate(chunks)
    ]
    relaxed = _computed([part for part in relaxed_parts if part.entries], directory / "relaxed", mapper)
    hull = ReferenceHull(static, relaxed)
    summary = {"potential": f"{potential.name} {potential.version}", **hull.sizes()}
    (directory / "hull.json").write_text(json.dumps(summary, indent=1) + "\n")
    _log.info("hull: %s", summary)
    return hull


def reference_key(entries: Sequence[ReferenceEntry], potential: Potential, config: HullConfig) -> str:
    """A name for the energies of these entries with this potential, relaxation and window."""
    digest = hashlib.sha256()
    settings = asdict(config)
    settings["relax"].pop("batch_size")
    digest.update(json.dumps([potential.name, potential.version, settings], sort_keys=True).encode())
    for entry in entries:
        structure = entry.structure
        digest.update(entry.material_id.encode())
        for array in (structure.lattice.round(6), structure.frac_coords.round(6), structure.atomic_numbers):
            digest.update(np.ascontiguousarray(array).tobytes())
    return f"{potential.name}-{potential.version}-{digest.hexdigest()[:12]}"


def _computed(parts: Sequence[Part], directory: Path, mapper: PartMapper) -> pa.Table:
    """All parts' tables as one; those not on disk are computed and kept."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {part.index: directory / f"part-{part.index:06d}.parquet" for part in parts}
    waiting = [part for part in parts if not paths[part.index].exists()]
    for done, (part, table) in enumerate(mapper(waiting), start=1):
        aside = paths[part.index].with_suffix(".tmp")
        pq.write_table(table, aside, compression="zstd")
        aside.rename(paths[part.index])
        _log.info("%s: part %d of %d", directory.name, len(parts) - len(waiting) + done, len(parts))
    return _joined(paths[part.index] for part in parts)


def _joined(paths: Iterable[Path]) -> pa.Table:
    tables = [open_parquet(path).read() for path in paths]
    return pa.concat_tables(tables) if tables else pa.table({"material_id": pa.array([], pa.string())})


def _near_hull(static: pa.Table, window: float) -> set[str]:
    ids = static["material_id"].to_pylist()
    numbers = [np.array(row) for row in static["atomic_numbers"].to_pylist()]
    energy = static["energy_per_atom"].to_numpy()
    distances = _distances(Hull(ids, numbers, energy), numbers, energy)
    return {name for name, distance in zip(ids, distances, strict=True) if not distance > window}


def finished_hull(directory: Path) -> Path:
    """The directory itself, or the one of its folders that holds a hull: `matgen hull --out` names the folder above.

    Raises:
        SourceError: there is none, or more than one.
    """
    found = sorted(directory.glob("hull.json")) or sorted(directory.glob("*/hull.json"))
    if len(found) != 1:
        names = ", ".join(path.parent.name for path in found)
        raise SourceError(f"{directory} holds {f'several hulls; name one of {names}' if found else 'no finished hull'}")
    return found[0].parent


def _distances(hull: Hull, numbers: Sequence[np.ndarray], energy: np.ndarray) -> list[float]:
    return [hull.e_above_hull(z, float(e)).value for z, e in zip(numbers, energy, strict=True)]


class ReferenceHull:
    """A hull with the tables it was made of: the relaxed energy of an entry where there is one, else its static one.

    Args:
        static, relaxed: tables as `static_table` and `relaxed_table` give them.
    """

    def __init__(self, static: pa.Table, relaxed: pa.Table) -> None:
        self.ids: list[str] = static["material_id"].to_pylist()
        self.splits: list[str] = static["split"].to_pylist()
        self.labels = static["label_e_above_hull"].to_numpy()
        self.numbers = [np.array(row) for row in static["atomic_numbers"].to_pylist()]
        self.energies_per_atom = static["energy_per_atom"].to_numpy().copy()
        self.num_relaxed = 0
        place = {name: index for index, name in enumerate(self.ids)}
        if relaxed.num_rows:
            names, relaxed_energies = relaxed["material_id"].to_pylist(), relaxed["energy_per_atom"].to_pylist()
            for name, energy in zip(names, relaxed_energies, strict=True):
                if np.isfinite(energy):
                    self.energies_per_atom[place[name]] = energy
                    self.num_relaxed += 1
        self.hull = Hull(self.ids, self.numbers, self.energies_per_atom)

    @classmethod
    def load(cls, directory: Path) -> "ReferenceHull":
        """A hull from a finished directory of parts, or from the folder that holds one such directory.

        Raises:
            SourceError: there is none, or more than one.
        """
        directory = finished_hull(directory)
        static, relaxed = (_joined(finished_parts(directory, kind)) for kind in ("static", "relaxed"))
        if not static.num_rows:
            raise SourceError(f"{directory} holds no finished hull")
        return cls(static, relaxed)

    def sizes(self) -> dict[str, int]:
        """Counts of entries, of those with an energy, relaxed, of compositions, of elements with their own phase."""
        return {
            "num_entries": len(self.ids),
            "num_with_energy": self.hull.num_entries,
            "num_relaxed": self.num_relaxed,
            "num_compositions": self.hull.num_compositions,
            "num_elements": len(self.hull.elements),
        }

    def calibration(self, split: str, max_entries: int | None = None) -> Calibration:
        """Distances of one split's entries from the hull of all other splits, against their labels.

        Args:
            split: the entries to keep out of the hull.
            max_entries: compare only the first so many.
        """
        held = np.array([name == split for name in self.splits])
        rest = np.flatnonzero(~held)
        hull = Hull([self.ids[k] for k in rest], [self.numbers[k] for k in rest], self.energies_per_atom[rest])
        chosen = np.flatnonzero(held)[:max_entries]
        ours = _distances(hull, [self.numbers[k] for k in chosen], self.energies_per_atom[chosen])
        return calibrate(ours, self.labels[chosen])


def finished_parts(directory: Path, kind: str) -> Iterator[Path]:
    """The parts of a kind that are on disk."""
    yield from sorted((directory / kind).glob("part-*.parquet"))
