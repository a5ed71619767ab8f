"""The experiments by name, and `matgen list`."""

import argparse
import difflib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import (
    mofdiff_demo,
    mofdiff_property_comparison,
    mofdiff_qmof,
    symmcd_custom,
    symmcd_demo,
    symmcd_mp20,
    symmcd_seed_comparison,
)
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
        mofdiff_qmof.mofdiff_qmof_blocks_first,
        mofdiff_qmof.mofdiff_qmof_paper,
        mofdiff_property_comparison.mofdiff_property_comparison,
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


def read_experiment(path: Path) -> "Experiment | MofExperiment":
    """Read an experiment from a file of settings, as `matgen run --show` prints and a sweep's best.json holds.

    Raises:
        ConfigError: it cannot be read, or is not such a file.
    """
    from matgen.config import Experiment
    from matgen.mof_config import MofExperiment

    try:
        text = path.read_text()
        values = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: no file of settings ({error})") from error
    frameworks = isinstance(values, dict) and "blocks" in values
    return MofExperiment.from_json(text) if frameworks else Experiment.from_json(text)


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
