"""Small charts as SVG text: colours come from the page's style sheet, numbers from `data-tip` under the pointer."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

import numpy as np

WIDTH, HEIGHT = 520.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 10.0, 36.0


def esc(value: object) -> str:
    """Text from data, safe in HTML and in attributes."""
    return escape(str(value), quote=True)


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """A share in percent, with more digits near its ends."""
    if share is None or not np.isfinite(share):
        return "–"
    value = 100 * share
    return f"{value:.2f} %" if 0 < value < 1 or 99 < value < 100 else f"{value:.1f} %"


@dataclass(frozen=True, eq=False)
class Series:
    """Values under one name; `style` is the class that colours it."""

    name: str
    style: str
    values: np.ndarray
    x: np.ndarray | None = None
    dots: bool = False


def legend(series: Sequence[tuple[str, str]]) -> str:
    """Names beside their colours, as HTML."""
    items = "".join(f'<span class="key {style}"><i></i>{esc(name)}</span>' for name, style in series)
    return f'<p class="legend">{items}</p>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two bounds."""
    span = max(high - low, 1e-12)
    step = 10.0 ** floor(log10(span / count))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if span / (step * m) <= count)
    first = ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, floor(high / step + 1e-9) + 1)]


class Frame:
    """A plot's axes: maps values to the picture, and draws itself."""

    def __init__(
        self, x: tuple[float, float], y: tuple[float, float], width: float = WIDTH, height: float = HEIGHT
    ) -> None:
        self.x_range, self.y_range, self.width, self.height = x, y, width, height

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x_range
        return _LEFT + (value - low) / max(high - low, 1e-12) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        low, high = self.y_range
        return self.height - _BOTTOM - (value - low) / max(high - low, 1e-12) * (self.height - _TOP - _BOTTOM)

    def grid(self, x_label: str, y_percent: bool, x_ticks: Sequence[tuple[float, str]] | None = None) -> str:
        """Grid lines, ticks and the label of the horizontal axis."""
        parts = []
        for value in ticks(*self.y_range, 4):
            y = self.y(value)
            text = f"{100 * value:g} %" if y_percent else f"{value:g}"
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>')
        bottom = self.height - _BOTTOM
        marks = x_ticks if x_ticks is not None else [(value, f"{value:g}") for value in ticks(*self.x_range, 6)]
        for value, text in marks:
            parts.append(f'<text x="{self.x(value):.1f}" y="{bottom + 15}" text-anchor="middle">{esc(text)}</text>')
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{self.width - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
        middle = (_LEFT + self.width - _RIGHT) / 2
        parts.append(
            f'<text class="label" x="{middle}" y="{self.height - 4}" text-anchor="middle">{esc(x_label)}</text>'
        )
        return "".join(parts)

    def wrap(self, body: str, title: str) -> str:
        """The whole picture."""
        return (
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{esc(title)}">{body}</svg>'
        )


def grouped_bars(categories: Sequence[str], series: Sequence[Series], x_label: str, title: str) -> str:
    """Shares of categories, the series side by side; `values` has one share per category."""
    highest = max((float(s.values.max()) for s in series if len(s.values)), default=0.0)
    frame = Frame((0, len(categories)), (0, highest * 1.08 or 1.0))
    body = frame.grid(x_label, True, [(i + 0.5, name) for i, name in enumerate(categories)])
    bar = 0.8 / max(len(series), 1)
    for j, s in enumerate(series):
        for i, share in enumerate(s.values):
            left, right = frame.x(i + 0.1 + j * bar), frame.x(i + 0.1 + (j + 1) * bar)
            top, bottom = frame.y(float(share)), frame.y(0)
            tip = f"{categories[i]}: {percent(float(share))} of {s.name}"
            body += (
                f'<rect class="fill {s.style}" x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 1, 0.5):.1f}" '
                f'height="{max(bottom - top, 0):.1f}" rx="1.5" data-tip="{esc(tip)}"/>'
            )
    return frame.wrap(body, title)


def histogram(
    series: Sequence[Series], edges: np.ndarray, x_label: str, title: str, lines: Sequence[tuple[float, str]] = ()
) -> str:
    """Outlined histograms over each other, each as shares of its own values; the last bin takes what is beyond.

    Args:
        series: values.
        edges: of the bins.
        x_label, title: texts.
        lines: (place, text) of vertical marks.
    """
    shares = []
    for s in series:
        counts, _ = np.histogram(np.clip(s.values, edges[0], edges[-1]), bins=edges)
        shares.append(counts / max(len(s.values), 1))
    highest = max((float(share.max()) for share in shares), default=0.0)
    frame = Frame((float(edges[0]), float(edges[-1])), (0, highest * 1.08 or 1.0))
    body = frame.grid(x_label, True)
    for s, share in zip(series, shares, strict=True):
        points = [(frame.x(edges[0]), frame.y(0))]
        for left, right, value in zip(edges[:-1], edges[1:], share):
            points += [(frame.x(left), frame.y(value)), (frame.x(right), frame.y(value))]
        points.append((frame.x(edges[-1]), frame.y(0)))
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        body += f'<path class="area {s.style}" d="{path}"/>'
    names = [s.name for s in series]
    for i in range(len(edges) - 1):
        said = "; ".join(f"{name} {percent(float(share[i]))}" for name, share in zip(names, shares))
        left, right = frame.x(edges[i]), frame.x(edges[i + 1])
        tip = f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {said}"
        body += (
            f'<rect class="hit" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}" data-tip="{esc(tip)}"/>'
        )
    for place, text in lines:
        x = frame.x(place)
        body += f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        body += f'<text x="{x + 4:.1f}" y="{_TOP + 10}">{esc(text)}</text>'
    return frame.wrap(body, title)


def lines(series: Sequence[Series], x_label: str, title: str) -> str:
    """Curves; the vertical axis leaves out the outermost percents of the values."""
    kept = [s for s in series if s.x is not None and len(s.values)]
    values = np.concatenate([s.values for s in kept]) if kept else np.zeros(1)
    places = np.concatenate([s.x for s in kept if s.x is not None]) if kept else np.zeros(1)
    low, high = (float(v) for v in np.nanpercentile(values, [0, 98]))
    pad = 0.06 * max(high - low, 1e-9)
    frame = Frame((float(min(0, places.min())), float(max(places.max(), 1))), (low - pad, high + pad))
    body = frame.grid(x_label, False)
    for s in kept:
        assert s.x is not None
        stride = max(1, len(s.values) // 400)
        points = [
            (frame.x(float(x)), frame.y(float(np.clip(y, low - pad, high + pad))), float(x), float(y))
            for x, y in zip(s.x[::stride], s.values[::stride])
            if np.isfinite(y)
        ]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in points)
        body += f'<path class="line {s.style}{" thin" if not s.dots else ""}" d="{path}"/>' if points else ""
        for x, y, step, value in points[:: max(1, len(points) // 60)]:
            radius, kind = (3, "fill") if s.dots else (6, "hit")
            tip = f"{s.name}, {x_label} {step:g}: {value:.4g}"
            body += f'<circle class="{kind} {s.style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}" data-tip="{esc(tip)}"/>'
    return frame.wrap(body, title)
