"""Pictures of models: boxes, arrows, a colour a task, in the same visual language on every page.

A box stands at a column and a row, any numbers; the picture makes columns and rows as wide as
the texts need. Kinds of boxes differ by shape and styles of arrows by line, not by colour alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.bezier import BezierSegment, split_de_casteljau
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from mtlbook.errors import UsageError

Kind = Literal["data", "layer", "shared", "task", "loss", "mix", "note"]
Style = Literal["forward", "gradient", "reversed", "mixed", "tied"]
_Place: TypeAlias = tuple[int | float, int | float]  # column, row
_Need: TypeAlias = tuple[str, str, float]  # two boxes, and how far apart their middles must be

TASKS = ("#DE8F05", "#029E73", "#CC78BC", "#CA9161", "#56B4E9", "#949494")
SHARED, INK = "#0173B2", "#333333"
LINES: dict[str, dict[str, Any]] = {
    "forward": {"color": INK, "linewidth": 1.3, "linestyle": "-"},
    "gradient": {"color": "#7A5195", "linewidth": 1.5, "linestyle": (0, (5, 2))},
    "reversed": {"color": "#C8321E", "linewidth": 2.2, "linestyle": (0, (6, 1.5, 1.5, 1.5))},
    "mixed": {"color": "#666666", "linewidth": 1.0, "linestyle": "-"},
    "tied": {"color": SHARED, "linewidth": 1.5, "linestyle": (0, (1, 1.5))},
}
KEY = {
    "gradient": "gradient",
    "reversed": "gradient with its sign reversed",
    "tied": "parameters kept close",
}
FONT, SMALL = 10.0, 9.0  # points
# Inches: about a text, a box's least size, between boxes, about the picture, least pitches.
PADDING, LEAST, GAP, MARGIN, PITCH = 0.11, (0.62, 0.38), (0.38, 0.24), 0.08, (0.5, 0.62)
WIDEST = 4.0  # inches between two columns or rows: more, and two boxes were put too close together


@dataclass
class _Box:
    text: str
    at: _Place
    kind: Kind
    task: int | None
    size: np.ndarray = field(default_factory=lambda: np.zeros(2))  # inches
    centre: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def port(self, side: _Place | np.ndarray) -> np.ndarray:
        """A point of the border: (1, 0) is the middle of the right side."""
        return self.centre + self.size / 2 * np.asarray(side)


@dataclass(frozen=True)
class _Arrow:
    start: str
    end: str
    label: str
    style: Style
    bend: int | float | None


class Diagram:
    """A picture of a model, from left to right.

    >>> picture = Diagram()
    >>> picture.box("x", "input", at=(0, 0), kind="data")
    >>> picture.box("trunk", "shared trunk", at=(1, 0), kind="shared")
    >>> picture.box("a", "head A", at=(2, 0.5), task=0)
    >>> picture.box("b", "head B", at=(2, -0.5), task=1)
    >>> for end in "ab":
    ...     picture.arrow("trunk", end)
    >>> picture.arrow("x", "trunk")
    >>> figure = picture.draw()
    """

    def __init__(self) -> None:
        self._boxes: dict[str, _Box] = {}
        self._arrows: list[_Arrow] = []

    def box(
        self,
        name: str,
        text: str,
        *,
        at: _Place,
        kind: str | None = None,
        task: int | None = None,
    ) -> None:
        r"""Put a box at a column and a row (upwards); `task` colours one of any kind.

        Kinds: "data" (square corners), "layer" (round corners), "shared" (blue, thick border),
        "task" (a task's head or layer; the default where `task` is given), "loss" (a pill), "mix"
        (a circle: ⊕, or the text), "note" (text without a box). Lines of a text end with a line
        feed; mathematics is written as ``$\alpha$``.
        """
        kind = kind or ("layer" if task is None else "task")
        if kind not in get_args(Kind):
            raise UsageError(
                f"a box's kind is one of {', '.join(get_args(Kind))}, not {kind!r} (box {name!r})"
            )
        if name in self._boxes:
            raise UsageError(f"there is already a box {name!r}")
        if task is not None and not 0 <= task < len(TASKS):
            raise UsageError(f"task is from 0 to {len(TASKS) - 1}, not {task} (box {name!r})")
        if kind == "task" and task is None:
            raise UsageError(f"the box {name!r} of kind task needs task=0, 1, …: its colour")
        self._boxes[name] = _Box(text, at, cast(Kind, kind), task)

    def arrow(
        self,
        start: str,
        end: str,
        *,
        label: str = "",
        style: str = "forward",
        bend: int | float | None = None,
    ) -> None:
        """Join two boxes.

        Styles: "forward" (solid), "gradient" (dashed) and "reversed" (a gradient with its sign
        reversed), which curve back around the boxes, "mixed" (thin), "tied" (dotted, a head at both
        ends). Gradients pass above what lies higher and below what lies lower; `bend` decides where
        that does not suit: 1 above, −1 below, 0 straight.
        """
        for name in (start, end):
            if name not in self._boxes:
                raise UsageError(
                    f"an arrow needs two boxes; there is no {name!r} among "
                    f"{', '.join(map(repr, self._boxes)) or 'none'}"
                )
        if start == end:
            raise UsageError(f"an arrow joins two boxes, not {start!r} with itself")
        if style not in get_args(Style):
            raise UsageError(
                f"an arrow's style is one of {', '.join(get_args(Style))}, not {style!r}"
            )
        self._arrows.append(_Arrow(start, end, label, cast(Style, style), bend))

    def draw(self) -> Figure:
        """Draw the picture, as large as its content."""
        if not self._boxes:
            raise UsageError("a diagram without boxes shows nothing")
        measure = _measure()
        self._place(measure)
        curves = [self._curve(arrow) for arrow in self._arrows]
        middle = np.mean([box.centre[1] for box in self._boxes.values()])
        labels = [
            (arrow, _beside(curve, measure(arrow.label, SMALL), arrow.style, float(middle)))
            for arrow, curve in zip(self._arrows, curves, strict=True)
            if arrow.label
        ]
        used = [style for style in KEY if style in {arrow.style for arrow in self._arrows}]
        corners = [box.port(side) for box in self._boxes.values() for side in ((-1, -1), (1, 1))]
        corners += [point for curve in curves for point in _points(curve)]
        for arrow, place in labels:
            corners += [place + sign * measure(arrow.label, SMALL) / 2 for sign in (-1, 1)]
        low, high = np.min(corners, axis=0) - MARGIN, np.max(corners, axis=0) + MARGIN
        if used:  # room for the key below
            across = 0.8 * len(used) + sum(measure(KEY[style], SMALL)[0] for style in used)
            lack = np.array([max(0.0, across - (high - low)[0]) / 2, 0])
            low, high = low - lack - [0, 0.3], high + lack
        figure = _figure(*(high - low))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_axis_off()
        for arrow, curve in zip(self._arrows, curves, strict=True):
            _draw_arrow(axes, curve, arrow.style, self._boxes[arrow.start].task)
        for name, box in self._boxes.items():
            _draw_box(axes, name, box)
        for arrow, place in labels:
            colour = LINES[arrow.style]["color"] if arrow.style in KEY else INK
            halo = [withStroke(linewidth=3, foreground="white")]
            _write(axes, arrow.label, place, SMALL, color=colour, path_effects=halo, zorder=4)
        if used:
            lines = [Line2D([], [], **LINES[style]) for style in used]
            names = [KEY[style] for style in used]
            look: dict[str, Any] = {"loc": "lower center", "frameon": False, "borderpad": 0.2}
            figure.legend(lines, names, ncols=len(used), fontsize=SMALL, handlelength=3, **look)
        return figure

    def _place(self, measure: Callable[[str, float], np.ndarray]) -> None:
        """Give every box its size, alike within a column, and its place."""
        boxes = list(self._boxes.values())
        for box in boxes:
            text = measure(box.text, FONT)
            box.size = text if box.kind == "note" else np.maximum(LEAST, text + 2 * PADDING)
            if box.kind == "mix":
                box.size = np.full(2, 0.28 if box.text in ("", "⊕") else text.max() + PADDING)
        for box in boxes:
            if box.kind not in ("mix", "note"):
                box.size[0] = max(
                    other.size[0]
                    for other in boxes
                    if other.at[0] == box.at[0] and other.kind not in ("mix", "note")
                )
        needs: tuple[list[_Need], list[_Need]] = ([], [])  # between columns, between rows
        for (one, first), (other, second) in combinations(self._boxes.items(), 2):
            apart = np.abs(np.subtract(first.at, second.at))
            sizes = (first.size + second.size) / 2
            beside = apart[1] * PITCH[1] < sizes[1] + GAP[1] / 2 and apart[0] > 0
            axis = 0 if beside else 1
            if apart[axis] == 0:
                raise UsageError(f"the boxes {one!r} and {other!r} lie on each other: move one")
            needs[axis].append((one, other, sizes[axis] + GAP[axis]))
        for arrow in self._arrows:
            first, second = self._boxes[arrow.start], self._boxes[arrow.end]
            if arrow.label and first.at[0] != second.at[0]:
                room = (first.size + second.size)[0] / 2 + measure(arrow.label, SMALL)[0] + 0.3
                needs[0].append((arrow.start, arrow.end, room))
        for axis in (0, 1):
            coordinates = np.array([box.at[axis] for box in boxes])
            knots = np.arange(np.floor(coordinates.min()), np.ceil(coordinates.max()) + 1)
            places = self._spread(axis, knots, needs[axis])
            for box in boxes:
                box.centre[axis] = np.interp(box.at[axis], knots, places)

    def _spread(self, axis: int, knots: np.ndarray, needs: list[_Need]) -> np.ndarray:
        """Inches of whole columns or rows, so far apart that every two boxes have what they need.

        What two boxes lack is added to the columns between them, each by how much of it lies there.
        """
        widths = np.full(max(len(knots) - 1, 0), PITCH[axis])
        for _ in range(200):
            short = False
            for one, other, need in needs:
                low, high = sorted((self._boxes[one].at[axis], self._boxes[other].at[axis]))
                share = np.diff(np.clip(knots, low, high))
                lack = need - share @ widths
                if lack > 1e-6:
                    widths += share * lack / (share @ share)
                    short = True
                if (widths > WIDEST).any():
                    raise UsageError(f"the boxes {one!r} and {other!r} are too near: move one away")
            if not short:
                break
        return np.concatenate([[0.0], np.cumsum(widths)])

    def _curve(self, arrow: _Arrow) -> BezierSegment:
        """The course of an arrow, from border to border."""
        first, second, bend = self._boxes[arrow.start], self._boxes[arrow.end], arrow.bend
        way = second.centre - first.centre
        gaps = np.abs(way) - (first.size + second.size) / 2
        axis = 0 if gaps[0] > 0.02 else 1  # along which the arrow leaves and arrives
        side = np.sign(way[axis]) * np.eye(2)[axis]
        ends = first.port(side), second.port(-side)
        straight = BezierSegment(np.linspace(*ends, 4))
        others = [box for name, box in self._boxes.items() if name not in (arrow.start, arrow.end)]
        if bend is None:
            feedback = arrow.style in ("gradient", "reversed")
            blocked = any(_crosses(straight, box) for box in others)
            # Away from the target; from one row to the same, away from the middle of the picture.
            rise = -way[1] or first.centre[1] - np.mean([box.centre[1] for box in others])
            bend = (1 if rise > 1e-9 else -1) if feedback or blocked else 0
        if bend == 0:
            return straight
        # Around what is between: out of the upper or lower borders, or of the right or left ones.
        away = np.sign(bend) * np.eye(2)[1 - axis]
        ends = np.array([first.port(away + 0.3 * side), second.port(away - 0.3 * side)])
        height = max(ends @ away) + abs(bend) * (0.24 + 0.03 * np.abs(ends[1] - ends[0]).max())
        for higher in np.arange(0, 3, 0.1):
            # A cubic curve reaches three quarters of the way to its controls.
            rises = (height + higher - ends @ away)[:, None] / 0.75 * away
            curve = BezierSegment(np.array([ends[0], *(ends + rises), ends[1]]))
            if not any(_crosses(curve, box) for box in others):
                return curve
        raise UsageError(
            f"the arrow from {arrow.start!r} to {arrow.end!r} would cross a box: set bend "
            "(1 above, -1 below, 0 straight) or move a box"
        )


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")  # the theme's would move the axes
    return figure


def _measure() -> Callable[[str, float], np.ndarray]:
    """A function from a text and its size in points to its width and height in inches."""
    figure = _figure(1.0, 1.0)
    renderer = FigureCanvasAgg(figure).get_renderer()

    def measure(text: str, points: float) -> np.ndarray:
        extent = _write(figure, text, (0.5, 0.5), points).get_window_extent(renderer)
        return np.array([extent.width, extent.height]) / figure.dpi

    return measure


def _write(
    on: Axes | Figure, text: str, at: _Place | np.ndarray, points: float, **look: Any
) -> Text:
    return on.text(
        at[0], at[1], text, size=points, ha="center", va="center", linespacing=1.15, **look
    )


def _points(curve: BezierSegment) -> np.ndarray:
    return np.asarray(curve(np.linspace(0, 1, 101)))


def _crosses(curve: BezierSegment, box: _Box) -> bool:
    return bool((np.abs(_points(curve) - box.centre) < box.size / 2).all(axis=1).any())


def _beside(curve: BezierSegment, size: np.ndarray, style: Style, middle: float) -> np.ndarray:
    """The place of an arrow's label: beside it, away from the middle of the picture."""
    start, end = curve.control_points[0], curve.control_points[-1]
    half = np.asarray(curve(0.5))
    if np.abs(end - start)[0] < 0.05:  # upright
        return half + np.array([size[0] / 2 + 0.06, 0])
    slope = np.divide(*(end - start)[::-1]) if style not in ("gradient", "reversed") else 0.0
    if slope and abs(half[1] - middle) < 0.05:  # arrows that cross in the middle
        return np.asarray(curve(0.27))
    away = 1 if half[1] >= middle - 0.05 else -1
    return half + np.array([0, away * (size[1] / 2 + 0.3 * abs(slope) * size[0] + 0.05)])


def _mixed(colour: str, other: str, share: float) -> tuple[float, ...]:
    pairs = zip(to_rgb(colour), to_rgb(other), strict=True)
    return tuple(share * one + (1 - share) * two for one, two in pairs)


def _draw_arrow(axes: Axes, curve: BezierSegment, style: Style, task: int | None) -> None:
    look = dict(LINES[style])
    if style == "mixed" and task is not None:
        look["color"] = _mixed(TASKS[task], INK, 0.75)
    line = curve.control_points
    parts = np.linspace(0, 1, 401)
    away = np.linalg.norm(np.asarray(curve(parts)) - line[-1], axis=1)
    shaft, _ = split_de_casteljau(line, float(parts[np.argmax(away < 0.07)]))
    codes = [Path.MOVETO, *[Path.CURVE4] * 3]
    axes.add_patch(PathPatch(Path(shaft, codes), fill=False, capstyle="butt", zorder=1, **look))
    ends: dict[str, Any] = {"shrinkA": 0, "shrinkB": 0, "linewidth": 0, "mutation_scale": 16}
    heads = "<|-|>" if style == "tied" else "-|>"  # whole, even where the line is dashed
    axes.add_patch(
        FancyArrowPatch(path=Path(line, codes), arrowstyle=heads, color=look["color"], **ends)
    )


def _draw_box(axes: Axes, name: str, box: _Box) -> None:
    colour = SHARED if box.kind == "shared" else INK if box.task is None else TASKS[box.task]
    look: dict[str, Any] = {
        "facecolor": "#F2F2F2" if colour == INK else _mixed(colour, "white", 0.25),
        "edgecolor": _mixed(colour, INK, 0.8),
        "linewidth": 2.4 if box.kind == "shared" else 1.3,
        "zorder": 2,
        "gid": name,
    }
    width, height = box.size
    if box.kind == "mix":
        axes.add_patch(Circle(tuple(box.centre), width / 2, **look))
        if box.text in ("", "⊕"):
            for side in ((1, 0), (0, 1)):
                ends = np.array([box.port(side), 2 * box.centre - box.port(side)])
                axes.plot(*ends.T, color=look["edgecolor"], linewidth=1.3, zorder=3)
            return
    elif box.kind != "note":
        rounding = {"data": 0.0, "loss": height / 2}.get(box.kind, 0.09)
        style = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
        axes.add_patch(
            FancyBboxPatch(tuple(box.port((-1, -1))), width, height, boxstyle=style, **look)
        )
    slant = "italic" if box.kind == "note" else "normal"
    _write(axes, box.text, box.centre, FONT, zorder=3, color=INK, style=slant)
