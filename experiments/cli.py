"""The matgen command. Only what --help needs is imported here: each command imports its own work when it runs."""

import argparse
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.arguments import (
    add_decompose,
    add_evaluate,
    add_export,
    add_generate,
    add_hull,
    add_reconstruct,
    add_relax,
    add_run,
)
from experiments.build_mofs import add_build_mofs
from experiments.optimize import add_optimize
from experiments.plan import add_plan
from experiments.status import add_status
from matgen.errors import MatgenError

DESCRIPTION = """Generative models of crystals, from structure files to evaluated candidates.

examples
  matgen list                                               experiments and their stages
  matgen run symmcd_demo --out runs/demo                    the whole line on embedded structures, in minutes
  matgen run symmcd_mp20 --data DIR --out runs/mp20         the paper's data set; name stages to run some of them
  matgen run symmcd_custom --data my_cifs/ --out runs/mine  train on your own crystals
  matgen generate --count 1000 --space-group 225 --elements Li,Fe,P,O --out new
  matgen reconstruct my_cifs/ --out check                   how well the representation holds your data
  matgen evaluate new --reference my_cifs/ --out scores
  matgen export new --format cif
  matgen doctor                                             what this machine has and lacks
"""

EXIT_FAILURE = 2
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_FAILURE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `work` to the module and function that does it."""
    common = _Parser(add_help=False)
    group = common.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="end with the summary as one line of JSON on standard output"
    )
    group.add_argument("--quiet", action="store_true", help="warnings only, no progress bar")
    group.add_argument("--debug", action="store_true", help="details, and the traceback of an error")
    parser = _Parser(prog="matgen", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, work: str, summary: str, examples: str = "") -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"examples\n{examples}" if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        sub.set_defaults(work=work)
        return sub

    command("list", "experiments.listing:list_experiments", "experiments and their stages")
    add_run(command)
    add_generate(command)
    add_optimize(command)
    add_reconstruct(command)
    add_build_mofs(command)
    add_decompose(command)
    add_relax(command)
    add_evaluate(command)
    add_export(command)
    report = command(
        "report", "experiments.run:report_command", "write the page about a run", "  matgen report runs/mp20"
    )
    report.add_argument("dir", type=Path, metavar="DIR", help="a run's directory (--out of matgen run or generate)")
    report.add_argument("--out", type=Path, help="the page (default: DIR/report.html)")
    add_hull(command)
    add_status(command)
    add_plan(command)
    doctor = command("doctor", "experiments.doctor:doctor_command", "what this machine has and lacks, and what to do")
    doctor.add_argument("--data", type=Path, help="folder of data sets (default: the variable MATGEN_DATA)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 2 for an error that its one line explains, 130 after an interruption.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        import matgen

        print(f"matgen {matgen.__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 0
    _start_logging(arguments)
    arguments.command_line = " ".join(["matgen", *(sys.argv[1:] if argv is None else argv)])
    try:
        module, function = arguments.work.split(":")
        summary: dict[str, Any] = getattr(importlib.import_module(module), function)(arguments)
    except MatgenError as error:
        if arguments.debug:
            raise
        line = " ".join(str(error).split())
        print(f"matgen {arguments.command}: {line}", file=sys.stderr)
        return EXIT_FAILURE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except KeyboardInterrupt:
        print(f"matgen {arguments.command}: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps(summary, default=str), flush=True)
    return 0


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print for a person: on standard output, or on standard error when that is for JSON."""
    print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)


def _start_logging(arguments: argparse.Namespace) -> None:
    level = logging.DEBUG if arguments.debug else logging.WARNING if arguments.quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    for name in ("matgen", "cluster", "experiments"):
        logging.getLogger(name).setLevel(level)
