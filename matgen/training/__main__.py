"""python -m matgen.training --records DIR --config FILE --out DIR : train with torch alone, no Ray."""

import json
import logging
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from matgen.data.priors import Priors
from matgen.data.records import Records
from matgen.errors import ConfigError, MatgenError
from matgen.models.symmcd import SymmCD, SymmCDConfig
from matgen.settings import from_dict, to_dict
from matgen.training.loop import Trainer, TrainResult
from matgen.training.state import TrainConfig
from matgen.training.step import Workers

_OPTIONS = ("records", "config", "out", "device", "init-from")


@dataclass(frozen=True, kw_only=True)
class PlainRun:
    """What the configuration file holds; every key is optional."""

    model: SymmCDConfig = field(default_factory=SymmCDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def build_model(config: SymmCDConfig, priors: Priors, seed: int) -> SymmCD:
    """Return a model whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SymmCD(config, priors)


def load_symmcd(config: dict[str, Any], priors: Priors) -> SymmCD:
    """Return the model of a checkpoint's configuration, for `load_model`."""
    return SymmCD(from_dict(SymmCDConfig, config), priors)


def train_plain(
    records: Path, out: Path, run: PlainRun, device: str | None = None, init_from: Path | None = None
) -> TrainResult:
    """Train in this process.

    Args:
        records: folder with train.safetensors, val.safetensors (may be absent) and priors.safetensors.
        out: directory of the run, resumed if it has checkpoints.
        run: model and training.
        device: cpu or cuda; the GPU if there is one where not given.
        init_from: checkpoint to fine-tune.

    Returns:
        How it ended.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    priors = Priors.load(records / "priors.safetensors")
    validation = records / "val.safetensors"
    trainer = Trainer(
        build_model(run.model, priors, run.train.seed),
        priors,
        Records.load(records / "train.safetensors"),
        Records.load(validation) if validation.exists() else Records.empty(),
        run.train,
        out,
        workers=Workers(device=where),
        run_config={"model": to_dict(run.model)},
        init_from=init_from,
    )

    def stop(number: int, _frame: object) -> None:
        trainer.stop_requested = True

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, stop)
    return trainer.run(progress=sys.stderr.isatty())


def _options(arguments: list[str]) -> dict[str, str]:
    pairs = dict(zip(arguments[::2], arguments[1::2]))
    options = {key.removeprefix("--"): value for key, value in pairs.items()}
    if len(arguments) % 2 or set(options) - set(_OPTIONS) or not {"records", "out"} <= set(options):
        raise ConfigError("options are --records DIR --out DIR [--config FILE] [--device cpu|cuda] [--init-from DIR]")
    return options


def main(arguments: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        options = _options(arguments)
        text = Path(options["config"]).read_text() if "config" in options else "{}"
        run = from_dict(PlainRun, json.loads(text))
        init_from = Path(options["init-from"]) if "init-from" in options else None
        result = train_plain(Path(options["records"]), Path(options["out"]), run, options.get("device"), init_from)
    except (MatgenError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    logging.getLogger(__name__).info("%s", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
