"""`matgen status` and `matgen watch`: how far a run is, once or live."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.arguments import AddCommand, positive

if TYPE_CHECKING:
    from cluster.status import StageStatus


BETWEEN_STAGES_S = 60.0  # nothing runs for so long while one stage ends and the next one starts


def add_status(command: AddCommand) -> None:
    """matgen status and matgen watch."""
    examples = "  matgen {0} runs/mp20\n"
    for name, summary in (
        ("status", "how far a run is: shards, rates, time left, workers, reasons of failure"),
        ("watch", "the same, live in the terminal"),
    ):
        parser = command(name, f"experiments.status:{name}_command", summary, examples.format(name))
        parser.add_argument("dir", type=Path, metavar="DIR", help="a run's directory, on any machine that sees it")
        if name == "watch":
            parser.add_argument("--every", type=positive, default=2.0, help="seconds between two looks (default: 2)")
            parser.add_argument("--once", action="store_true", help="one look")


def status_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Say it once; the summary has every stage's values."""
    from cluster.status import read_status
    from experiments.cli import say

    stages = read_status(arguments.dir)
    say(arguments, status_text(arguments.dir, stages))
    return {"dir": str(arguments.dir), "stages": {stage.stage: asdict(stage) for stage in stages}}


def watch_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Say it again and again, until nothing runs any more or somebody presses Ctrl-C."""
    from cluster.status import read_status

    ran = float("-inf")
    while True:
        stages = read_status(arguments.dir)
        if any(stage.state == "running" for stage in stages):
            ran = time.monotonic()
        text = f"{status_text(arguments.dir, stages)}\n\nevery {arguments.every:g} s; Ctrl-C ends"
        if sys.stdout.isatty():
            text = "\x1b[H\x1b[2J" + text
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if arguments.once or time.monotonic() - ran > BETWEEN_STAGES_S:
            return {"dir": str(arguments.dir), "stages": {stage.stage: asdict(stage) for stage in stages}}
        time.sleep(arguments.every)


def status_text(directory: Path, stages: "list[StageStatus]") -> str:
    """Return the page for a person."""
    lines = [f"{directory}   {time.strftime('%F %T')}"]
    for stage in stages:
        lines.append(f"{stage.stage:13s}{stage.state:9s}{_amount(stage)}")
        lines += [f"{'':22s}{line}" for line in _details(stage)]
    return "\n".join(lines)


def _amount(stage: "StageStatus") -> str:
    if stage.steps:
        best = "" if stage.loss is None else f"  best validation loss {stage.loss:.4g}"
        return (
            f"step {stage.steps}{f' of {stage.total_steps}' if stage.total_steps else ''}{_speed(stage, 'steps')}{best}"
        )
    if not stage.shards_done and (not stage.shards_total or stage.state == "done"):  # evaluate joins its parts
        return ""
    total = max(stage.shards_total, stage.shards_done)
    bar = "#" * round(20 * stage.shards_done / max(1, total))
    return f"[{bar:20s}] {stage.shards_done} of {total} shards, {stage.rows} rows{_speed(stage, 'rows')}"


def _speed(stage: "StageStatus", noun: str) -> str:
    if stage.state != "running" or not stage.rate:
        return ""
    return f"  {stage.rate:.3g} {noun}/s" + ("" if stage.eta_s is None else f", {duration(stage.eta_s)} left")


def _details(stage: "StageStatus") -> list[str]:
    lines = []
    if stage.status:
        lines.append("  ".join(f"{word} {count}" for word, count in stage.status.items()))
    if stage.state == "running" and stage.workers:
        lines.append(f"shards under way {_some(stage.running)}; workers {_words(stage.workers)}")
    if stage.busy_share is not None:
        lines.append(f"workers busy {stage.busy_share:.1%}; deaths {stage.deaths}, timeouts {stage.timeouts}")
    if stage.state == "silent":
        lines.append("nobody is at work on it: the same command goes on where it stopped")
    return lines + [f"{count:8d}  {reason}" for reason, count in list(stage.reasons.items())[:5]]


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "none"


def _some(numbers: tuple[int, ...], limit: int = 8) -> str:
    said = " ".join(map(str, numbers[:limit])) or "none"
    return said if len(numbers) <= limit else f"{said} and {len(numbers) - limit} more"


def duration(seconds: float) -> str:
    """Say seconds as a person would."""
    for size, word in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.0f} s"
