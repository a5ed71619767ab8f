"""Where everything on a page comes from: runs, stages, commands, versions, settings."""

import json
from typing import Any

from matgen.evaluation.report.reading import RunContents, StageRecord
from matgen.evaluation.report.svg import esc, number


def provenance_html(contents: RunContents) -> str:
    """Stages with their run ids and seeds, the exact commands, the versions and the settings."""
    return _stages(contents) + _commands(contents) + _versions(contents) + _settings(contents)


def finished(contents: RunContents) -> str:
    """When the last stage ended; empty where none did."""
    return max((str(stage.record.get("finished", "")) for _, stage in contents.stages), default="")


def checkpoint_hashes(contents: RunContents) -> list[str]:
    """Content hashes of the checkpoints that samples came from, without repeats."""
    inputs = (stage.record.get("inputs", {}).get("checkpoint", "") for _, stage in contents.stages)
    return list(dict.fromkeys(str(value) for value in inputs if value))


def _stages(contents: RunContents) -> str:
    rows = "".join(_stage_row(name, stage) for name, stage in contents.stages)
    return (
        '<div class="scroll"><table class="stages"><thead><tr><th>set</th><th>stage</th><th>run id</th>'
        '<th class="num">seed</th><th>checkpoint</th><th>code</th><th>started</th><th class="num">seconds</th>'
        f'<th class="num">rows/s</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _stage_row(name: str, stage: StageRecord) -> str:
    record = stage.record
    seconds = record.get("seconds")
    count = record.get("summary", {}).get("n")
    rate = count / seconds if isinstance(count, int | float) and seconds else None
    state = "" if stage.complete else ' <span class="notrun">unfinished</span>'
    checkpoint = record.get("inputs", {}).get("checkpoint", "")
    return (
        f"<tr><td>{esc(name)}</td><td>{esc(stage.name)}{state}</td>"
        f"<td><code>{esc(record.get('run_id', '–'))}</code></td>"
        f'<td class="num">{esc(record.get("seed", "–"))}</td><td><code>{esc(checkpoint)}</code></td>'
        f"<td><code>{esc(record.get('code_version', '–'))}</code></td><td>{esc(record.get('started', '–'))}</td>"
        f'<td class="num">{number(seconds)}</td><td class="num">{number(rate)}</td></tr>'
    )


def _commands(contents: RunContents) -> str:
    commands = dict.fromkeys(str(stage.record.get("command") or "") for _, stage in contents.stages)
    said = "\n".join(esc(command) for command in commands if command)
    return f"<h3>Commands</h3><pre>{said or 'not recorded'}</pre>"


def _versions(contents: RunContents) -> str:
    versions: dict[str, dict[str, None]] = {}
    for _, stage in contents.stages:
        for package, version in stage.record.get("versions", {}).items():
            versions.setdefault(str(package), {})[str(version)] = None
    items = "".join(
        f"<span><b>{esc(package)}</b> {esc(' and '.join(found))}</span>" for package, found in versions.items()
    )
    return f'<h3>Versions</h3><p class="versions">{items or "not recorded"}</p>'


def _settings(contents: RunContents) -> str:
    seen: dict[str, str] = {}
    for name, stage in contents.stages:
        experiment: dict[str, Any] = stage.record.get("experiment", {})
        if experiment:
            text = json.dumps(experiment, indent=1, sort_keys=False, ensure_ascii=False)
            seen.setdefault(text, f"{experiment.get('name', '')} {name}".strip())
    parts = (
        f"<details><summary>Settings of {esc(name)}</summary><pre>{esc(text)}</pre></details>"
        for text, name in seen.items()
    )
    return f"<h3>Settings</h3>{''.join(parts) or '<p>not recorded</p>'}"
