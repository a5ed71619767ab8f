"""Real frameworks that were cut and assembled again: how many closed, and how near they came to the originals."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig, mean_interval
from matgen.evaluation.report.reading import Reconstruction, column
from matgen.evaluation.report.svg import esc, number, percent
from matgen.evaluation.report.yields import failures_html

_PROTOCOL = (
    "Every block is turned at random and saved without a word on how blocks were joined; a fresh process assembles "
    "them from blocks, centres and cell alone. Closed: every paired connection meets. Matched: StructureMatcher (stol "
    "0.5, ltol 0.3, angle_tol 10) against the original. Shares are of all structures given, with bootstrap 95 % "
    "intervals. Perturbed: each block is replaced by another framework's nearest conformer, centres and cell are moved."
)


def reconstruction_html(reconstructions: Sequence[Reconstruction]) -> str:
    """A row for each reconstruction, and why frameworks did not come back."""
    if not reconstructions:
        return (
            '<p class="notrun">not run: this directory holds no reconstruction '
            "(<code>matgen reconstruct FILE --kind mof --out DIR/reconstruct</code>)</p>"
        )
    rows = "".join(_row(item) for item in reconstructions)
    parts = [
        '<div class="scroll"><table class="reconstruction"><thead><tr><th>reconstruction</th><th>source</th>'
        '<th class="num">n</th><th class="num">decomposed</th><th class="num">closed</th><th class="num">closed, of '
        'the decomposed</th><th class="num">matched</th><th class="num" title="in units of the cube root of the volume '
        'per atom">median RMSE</th><th class="num">CPU s each</th></tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">{esc(_PROTOCOL)}</p>'
    ]
    for item in reconstructions:
        parts.append(f"<h4>{esc(item.name)}: why frameworks did not come back</h4>{_failures(item)}")
    return "".join(parts)


def _row(item: Reconstruction) -> str:
    decomposed, closed, matched = (_flags(item, name) for name in ("decomposed", "closed", "matched"))
    config: dict[str, Any] = item.stage.record.get("config", {})
    how = "perturbed" if config.get("perturb") else "as cut"
    source = str(item.stage.record.get("inputs", {}).get("source", "–")).rsplit("/", 1)[-1]
    rms, seconds = (_finite(item, name) for name in ("rms", "cpu_seconds"))
    cells = "".join(_share(flags) for flags in (decomposed, closed, closed[decomposed], matched))
    return (
        f'<tr><th>{esc(item.name)} <span class="faint">{how}</span></th><td>{esc(source)}</td>'
        f'<td class="num">{len(closed):,}</td>{cells}'
        f'<td class="num">{number(float(np.median(rms))) if len(rms) else "–"}</td>'
        f'<td class="num">{number(float(seconds.mean())) if len(seconds) else "–"}</td></tr>'
    )


def _flags(item: Reconstruction, name: str) -> np.ndarray:
    values = column(item.rows, name)
    return np.zeros(item.rows.num_rows, dtype=bool) if values is None else values.astype(bool)


def _finite(item: Reconstruction, name: str) -> np.ndarray:
    values = column(item.rows, name)
    values = np.zeros(0) if values is None else values.astype(np.float64)
    return values[np.isfinite(values)]


def _share(flags: np.ndarray) -> str:
    if not len(flags):
        return '<td class="num faint">–</td>'
    low, high = mean_interval(flags.astype(np.float64), BootstrapConfig())
    return (
        f'<td class="num"><b>{percent(float(flags.mean()))}</b> <span>{int(flags.sum()):,}</span>'
        f"<small>[{100 * low:.1f}, {100 * high:.1f}]</small></td>"
    )


def _failures(item: Reconstruction) -> str:
    status, reason = column(item.rows, "status"), column(item.rows, "reason")
    if status is None:
        return ""
    stages = np.where(_flags(item, "decomposed"), "assemble", "decompose")
    stages[_flags(item, "closed")] = "compare"
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for i in np.flatnonzero(status != "ok"):
        key = (str(stages[i]), str(status[i]))
        counts[key] += 1
        example.setdefault(key, str(reason[i]) if reason is not None else "")
    return failures_html([(*key, count, example[key]) for key, count in counts.most_common()], item.rows.num_rows)
