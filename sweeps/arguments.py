"""What `python sweeps/tune_symmcd.py` understands, and what it makes of a sweep's settings."""

import argparse
import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from experiments.arguments import count, positive
from sweeps.journal import SweepConfig
from sweeps.spaces import find_space
from sweeps.subjects import subject_of


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a sweep is where the command line says nothing: minutes on a laptop."""

    subject: str
    experiment: str
    config: SweepConfig
    out: str
    large: SweepConfig  # of any other experiment than the one above


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(defaults: Defaults, description: str) -> argparse.ArgumentParser:
    """Return the parser of a sweep's command."""
    subject = subject_of(defaults.subject)
    spaces = "\n".join(f"  {space.name:<22}{space.summary}" for space in subject.spaces)
    parser = _Parser(
        description=f"{description}\n\nspaces\n{spaces}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to sweep")
    what.add_argument("--experiment", help=f"a name that matgen list shows (default: {defaults.experiment})")
    what.add_argument("--config", type=Path, metavar="FILE", help="settings from a file, as another sweep's best.json")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of it")
    what.add_argument("--space", help="one of the spaces above")
    what.add_argument("--only", metavar="NAME,...", help="of its parameters these alone; the others stay as they are")
    what.add_argument("--search", choices=["tpe", "random", "grid"], help="how points are chosen (default: tpe)")
    what.add_argument("--scheduler", choices=["asha", "pbt", "none"], help="who is stopped early (default: asha)")
    what.add_argument("--pareto", action="store_true", help="search for quality and for low cost at once")
    what.add_argument("--trials", type=int, help="points to try, defaults included")
    known = ", ".join(subject.baselines) or "there are none"
    what.add_argument("--baselines", help=f"trained beside them ({known}); none for none")
    much = parser.add_argument_group("how much")
    much.add_argument("--budget", type=positive, help="cost of a trial that is never stopped, in --unit")
    much.add_argument("--unit", choices=["crystals", "seconds"], help="rows seen in training, or seconds of training")
    much.add_argument("--rungs", type=count, help="judgements of such a trial")
    much.add_argument("--reduction", type=count, help="ratio of the costs of two rungs; one in so many goes on")
    much.add_argument("--samples", type=int, help="drawn at each rung")
    much.add_argument("--confirm-top", type=int, help="best trials that are looked at again")
    much.add_argument("--confirm-samples", type=int, help="drawn then")
    much.add_argument("--confirm-seeds", type=int, help="fresh trainings of each then (default: 0, more samples only)")
    much.add_argument("--seed", type=int, help="of search, trainings and samples")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=Path, help=f"directory of the sweep (default: {defaults.out})")
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with a sweep, after anything")
    where.add_argument("--records", type=Path, metavar="DIR", help="records that exist already: a run's records/")
    where.add_argument("--data", type=Path, help="folder of data sets (default: MATGEN_DATA)")
    where.add_argument("--address", help="Ray cluster to join, as auto (default: RAY_ADDRESS, else one of its own)")
    where.add_argument("--workers-per-trial", type=int, help="processes that train one model together")
    where.add_argument("--cpus-per-worker", type=positive, help="(default: 1)")
    where.add_argument("--gpus-per-worker", type=float, help="(default: 0)")
    where.add_argument("--concurrent", type=count, help="trials at a time (default: as many as there is room for)")
    where.add_argument("--debug", action="store_true", help="the traceback of an error")
    return parser


def configured(config: SweepConfig, arguments: argparse.Namespace) -> SweepConfig:
    """Return the configuration with what the command line says."""
    said = {name: getattr(arguments, name) for name in _DIRECT if getattr(arguments, name) is not None}
    budget = {
        "amount": arguments.budget,
        "unit": arguments.unit,
        "num_rungs": arguments.rungs,
        "reduction": arguments.reduction,
    }
    confirm = {
        "top": arguments.confirm_top,
        "samples": arguments.confirm_samples,
        "seeds": arguments.confirm_seeds,
    }
    if arguments.only is not None:
        said["only"] = tuple(name.strip() for name in arguments.only.split(",") if name.strip())
    if arguments.baselines is not None:
        named = [name.strip() for name in arguments.baselines.split(",") if name.strip()]
        said["baselines"] = () if named == ["none"] else tuple(named)
    elif arguments.scheduler == "pbt":
        said["baselines"] = ()
    if arguments.space is not None and arguments.search is None:
        said["search"] = find_space(arguments.space, subject_of(config.subject).spaces).search
    return replace(
        config,
        **said,
        pareto=arguments.pareto or config.pareto,
        budget=_changed(config.budget, budget),
        confirm=_changed(config.confirm, confirm),
    )


_DIRECT = (
    *("space", "search", "scheduler", "trials", "samples", "seed"),
    *("workers_per_trial", "cpus_per_worker", "gpus_per_worker", "concurrent"),
)


def _changed(config: Any, said: dict[str, Any]) -> Any:
    assert dataclasses.is_dataclass(config)
    given = {name: value for name, value in said.items() if value is not None}
    return replace(config, **given) if given else config  # type: ignore[type-var]
