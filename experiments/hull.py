"""`matgen hull`: the convex hull of a reference set, in the energies of the relaxation potential."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matgen.errors import ConfigError, StageError

if TYPE_CHECKING:
    from matgen.relaxation.reference_set import ReferenceEntry

POTENTIAL = "chgnet"


def hull_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build the hull, or go on building it; the summary has its sizes and calibration."""
    from cluster.run import available_cpus
    from cluster.session import ray_mapper
    from experiments.cli import say
    from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential
    from matgen.relaxation.reference import HullConfig, build_hull, reference_key
    from matgen.relaxation.reference_set import read_reference

    if arguments.potential not in (None, POTENTIAL):
        raise ConfigError(f"unknown potential {arguments.potential!r} (there is: {POTENTIAL})")
    paths = [Path(path).expanduser() for path in arguments.reference]
    for path in paths:
        if not path.is_file():
            raise StageError(f"{path}: no such file")
    entries = read_reference(paths)[: arguments.limit]
    if arguments.only_for is not None:
        entries = entries_for(entries, arguments.only_for)
    if not entries:
        raise StageError("the reference holds no structure" + (" that matters" if arguments.only_for else ""))
    potential, config = CHGNetPotential(CHGNetConfig(device="cpu")), HullConfig()
    workers = arguments.workers if arguments.workers is not None else available_cpus()
    with ray_mapper(workers) as mapper:
        parts = partial(_parts, mapper, config, quiet=arguments.quiet)
        hull = build_hull(entries, potential, config, arguments.out, parts)
    directory = arguments.out / reference_key(entries, potential, config)
    summary: dict[str, Any] = {"hull": str(directory), **hull.sizes()}
    calibration = hull.calibration("test")
    summary["calibration"] = vars(calibration) if calibration is not None else None
    say(arguments, "\n".join(f"{key:20s} {value}" for key, value in summary.items()))
    say(arguments, f"use it: matgen run ... --set relax.hull={directory}")
    return summary


def entries_for(entries: "list[ReferenceEntry]", run: Path) -> "list[ReferenceEntry]":
    """Keep the entries whose elements all occur in one and the same decoded crystal of a run.

    The hull at a crystal's composition is a mixture of such entries alone, so its distances are those of the whole set.

    Raises:
        StageError: the run has no decoded crystals.
    """
    from cluster.parts import iterate_rows, part_paths

    directory = run / "structures"
    if not part_paths(directory):
        raise StageError(f"{directory}: no decoded crystals (run the stage decode first)")
    rows = iterate_rows(directory, ["atomic_numbers"])
    systems = {frozenset(row["atomic_numbers"]) for row in rows if row["atomic_numbers"]}
    subsets = {frozenset(part) for system in systems for size in range(1, 8) for part in combinations(system, size)}
    return [entry for entry in entries if frozenset(entry.structure.atomic_numbers.tolist()) in subsets]


def _parts(
    mapper: Callable[..., Iterable[Any]], config: Any, parts: Iterable[Any], *, quiet: bool
) -> Iterator[tuple[Any, Any]]:
    from cluster.progress import shown

    pieces = list(parts)
    tables = shown(mapper, "hull", False if quiet else None)(partial(_part, config=config), pieces)
    yield from zip(pieces, tables, strict=True)


def _part(part: Any, config: Any) -> Any:
    import torch

    from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential
    from matgen.relaxation.reference import part_table

    torch.set_num_threads(1)
    return part_table(part, CHGNetPotential(CHGNetConfig(device="cpu")), config)
