"""python -m matgen.training --kind KIND --records DIR --config FILE --out DIR : train with torch alone, no Ray."""

import json
import logging
import sys
from pathlib import Path

from matgen.errors import ConfigError, MatgenError
from matgen.training.run import PlainRun, plain_run, train_plain
from matgen.training.tasks import KINDS

__all__ = ["PlainRun", "main", "train_plain"]

_OPTIONS = ("kind", "records", "config", "out", "device", "init-from")


def _options(arguments: list[str]) -> dict[str, str]:
    pairs = dict(zip(arguments[::2], arguments[1::2]))
    options = {key.removeprefix("--"): value for key, value in pairs.items()}
    if len(arguments) % 2 or set(options) - set(_OPTIONS) or not {"records", "out"} <= set(options):
        raise ConfigError(
            f"options are --records DIR --out DIR [--kind {'|'.join(KINDS)}] [--config FILE] [--device cpu|cuda] "
            "[--init-from DIR]"
        )
    return options


def main(arguments: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        options = _options(arguments)
        text = Path(options["config"]).read_text() if "config" in options else "{}"
        result = train_plain(
            Path(options["records"]),
            Path(options["out"]),
            plain_run(options.get("kind", KINDS[0]), json.loads(text)),
            options.get("device"),
            init_from=Path(options["init-from"]) if "init-from" in options else None,
            progress=sys.stderr.isatty(),
        )
    except (MatgenError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    logging.getLogger(__name__).info("%s", result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
