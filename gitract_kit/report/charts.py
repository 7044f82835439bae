"""Small charts as inline SVG: their colours come from the page's style, so that they follow its light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

__all__ = ["Line", "Strip", "draw_lines", "draw_strips"]

_WIDTH, _LEFT, _RIGHT, _TOP = 360, 38, 10, 28
_DOT = 3.2


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    color: int
    """Number of its colour in the palette."""
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclass(frozen=True)
class Strip:
    """The values of one group, a dot each."""

    label: str
    color: int
    values: Sequence[float]
    """NaN is left out."""
    names: Sequence[str]
    """What each value is of."""


def draw_lines(
    title: str, x_label: str, lines: Sequence[Line], limits: tuple[float, float] | None = None
) -> str:
    """Return an ``<svg>`` of ``lines`` over one pair of axes; y runs over ``limits``, or over what is there."""
    height, bottom = 214, 34
    x_limits = _limits([line.x for line in lines])
    y_limits = limits or _limits([line.y for line in lines])
    x_axis = _Axis(*x_limits, _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis(*y_limits, height - bottom, _TOP)
    parts = [_text(_LEFT - 30, 15, title, "chart-title")]
    parts += [_grid_line(_LEFT, y_axis(tick), _WIDTH - _RIGHT, y_axis(tick)) for tick in _ticks(*y_limits)]
    parts += [_text(_LEFT - 6, y_axis(tick) + 4, f"{tick:g}", "end") for tick in _ticks(*y_limits)]
    parts += [
        _text(x_axis(tick), height - bottom + 15, f"{tick:g}", "middle")
        for tick in _ticks(*x_limits)
        if float(tick).is_integer()
    ]
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, height - 3, x_label, "middle"))
    parts += [_draw_line(line, x_axis, y_axis) for line in lines]
    last = ", ".join(f"{line.label} ends at {line.y[-1]:.3g}" for line in lines if len(line.y))
    return _svg(height, f"{title}: {last}", parts)


def draw_strips(title: str, strips: Sequence[Strip], highest: float) -> str:
    """Return an ``<svg>`` with a row of dots a strip on one axis, from 0 to ``highest``, and a bar at each median."""
    row = 58
    bottom = _TOP + row * len(strips)
    axis = _Axis(0.0, highest, _LEFT - 26, _WIDTH - _RIGHT - 6)
    parts = [_text(_LEFT - 30, 15, title, "chart-title")]
    parts += [_grid_line(axis(tick), _TOP, axis(tick), bottom) for tick in _ticks(0.0, highest)]
    parts += [_text(axis(tick), bottom + 15, f"{tick:g}", "middle") for tick in _ticks(0.0, highest)]
    for number, strip in enumerate(strips):
        parts += _draw_strip(strip, axis, _TOP + row * number, row)
    summary = ", ".join(f"{strip.label} median {_median(strip.values)}" for strip in strips)
    return _svg(bottom + 22, f"{title}: {summary}", parts)


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return where ``value`` stands in the drawing."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _draw_line(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    points = [(x_axis(x), y_axis(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = " dashed" if line.dashed else ""
    drawn = f'<polyline class="line c{line.color}{dash}" points="{path}"/>'
    # where there is one epoch only, a line has no length
    dots = points if len(points) == 1 else []
    drawn += "".join(f'<circle class="dot c{line.color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots)
    return f"<g><title>{escape(line.label)}</title>{drawn}</g>"


def _draw_strip(strip: Strip, axis: _Axis, top: float, row: float) -> list[str]:
    values = np.asarray(strip.values, dtype=float)
    kept = np.flatnonzero(np.isfinite(values))
    middle = top + 36
    parts = [_text(_LEFT - 30, top + 12, f"{strip.label}: median {_median(values)}", "label")]
    xs = [axis(values[i]) for i in kept]
    for i, x, shift in zip(kept, xs, _spread(xs, limit=row / 2 - 12), strict=True):
        told = f"<title>{escape(strip.names[i])}: {values[i]:.3f}</title>"
        place = f'cx="{x:.1f}" cy="{middle + shift:.1f}" r="{_DOT}"'
        parts.append(f'<circle class="dot c{strip.color}" {place}>{told}</circle>')
    if len(kept):
        x = axis(float(np.median(values[kept])))
        parts.append(f'<path class="median" d="M{x:.1f} {middle - 15}v30"/>')
    return parts


def _spread(places: Sequence[float], limit: float) -> list[float]:
    """Return a shift for each dot that keeps it off the dots before it, as far as ``limit`` allows."""
    taken: list[tuple[float, float]] = []
    shifts = [0.0] * len(places)
    steps = sorted(np.arange(-limit, limit + 0.1, 2.0), key=lambda shift: (abs(shift), shift))
    for i in np.argsort(places, kind="stable"):
        near = [(x, shift) for x, shift in taken if places[i] - x < 2 * _DOT]
        free = (
            step for step in steps if all(math.hypot(places[i] - x, step - s) >= 1.8 * _DOT for x, s in near)
        )
        shifts[i] = float(next(free, 0.0))
        taken.append((places[i], shifts[i]))
    return shifts


def _median(values: Sequence[float]) -> str:
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    return f"{np.median(values):.3f}" if len(values) else "none"


def _limits(series: Sequence[Sequence[float]]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(one, dtype=float) for one in series])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from ``low`` to ``high``."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="grid" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:g}"'
    return f'<svg class="chart" role="img" aria-label="{escape(label)}" {box}>{"".join(parts)}</svg>'
