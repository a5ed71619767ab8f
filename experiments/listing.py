"""The experiments by name, and `matgen list`."""

import argparse
import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments import mofdiff_demo, mofdiff_qmof, symmcd_custom, symmcd_demo, symmcd_mp20, symmcd_seed_comparison
from matgen.errors import ConfigError

if TYPE_CHECKING:
    from matgen.config import Experiment
    from matgen.mof_config import MofExperiment

EXPERIMENTS: dict[str, Callable[[], "Experiment | MofExperiment"]] = {
    function.__name__: function
    for function in (
        symmcd_demo.symmcd_demo,
        symmcd_mp20.symmcd_mp20,
        symmcd_mp20.symmcd_mp20_paper,
        symmcd_custom.symmcd_mpts52,
        symmcd_custom.symmcd_perov5,
        symmcd_custom.symmcd_carbon24,
        symmcd_custom.symmcd_custom,
        symmcd_seed_comparison.symmcd_seed_comparison,
        mofdiff_demo.mofdiff_demo,
        mofdiff_qmof.mofdiff_qmof,
        mofdiff_qmof.mofdiff_qmof_paper,
    )
}


def find_experiment(name: str) -> "Experiment | MofExperiment":
    """Return an experiment by name.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown experiment {name!r}{hint} (there are: {', '.join(EXPERIMENTS)})")
    return EXPERIMENTS[name]()


def list_experiments(arguments: argparse.Namespace) -> dict[str, Any]:
    """matgen list."""
    from experiments.cli import say

    entries = []
    for name, function in EXPERIMENTS.items():
        summary = (function.__doc__ or "").splitlines()[0].strip()
        stages = list(function().stages)
        entries.append({"name": name, "summary": summary, "stages": stages})
        say(arguments, f"{name}\n    {summary}\n    stages: {' '.join(stages)}")
    return {"experiments": entries}
