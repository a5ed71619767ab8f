"""`matgen hull`: the convex hull of a reference set, in the energies of the relaxation potential."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from matgen.errors import ConfigError, StageError

POTENTIAL = "chgnet"


def hull_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build the hull, or go on building it; the summary has its sizes and calibration."""
    from cluster.run import available_cpus
    from cluster.session import ray_mapper
    from experiments.cli import say
    from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential
    from matgen.relaxation.reference import HullConfig, build_hull, read_reference, reference_key

    if arguments.potential not in (None, POTENTIAL):
        raise ConfigError(f"unknown potential {arguments.potential!r} (there is: {POTENTIAL})")
    paths = [Path(path).expanduser() for path in arguments.reference]
    for path in paths:
        if not path.is_file():
            raise StageError(f"{path}: no such file")
    entries = read_reference(paths)[: arguments.limit]
    if not entries:
        raise StageError("the reference holds no structure")
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


def _parts(
    mapper: Callable[..., Iterable[Any]], config: Any, parts: Iterable[Any], *, quiet: bool
) -> Iterator[tuple[Any, Any]]:
    from tqdm import tqdm

    pieces = list(parts)
    tables = mapper(partial(_part, config=config), pieces)
    bar = tqdm(tables, total=len(pieces), desc="hull", unit="part", disable=True if quiet else None)
    yield from zip(pieces, bar, strict=True)


def _part(part: Any, config: Any) -> Any:
    import torch

    from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential
    from matgen.relaxation.reference import part_table

    torch.set_num_threads(1)
    return part_table(part, CHGNetPotential(CHGNetConfig(device="cpu")), config)
