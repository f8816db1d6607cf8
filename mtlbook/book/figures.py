"""The book's figure kinds: colour-blind safe, readable in grey, the same bytes twice.

Colour says the method, the same on every page: single-task grey, hard sharing blue, the oracle
black and dashed, the page's method orange. Line style and marker say the condition or the part.
Every interval is the 95 % interval over seeds of :func:`mtlbook.statistics.interval`, the same as
in the tables. Frames are tidy: a row per seed × whatever is compared.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise, product
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap, Normalize, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mtlbook.errors import UsageError
from mtlbook.statistics import interval

WIDTH = 6.4  # inches
GREY = "0.45"
INK = "0.15"
# What a method looks like wherever it is drawn under this name: colour, marker, line style.
FIXED: dict[str, tuple[str, str, str]] = {
    "single-task": ("#6E6E6E", "s", "-"),
    "hard sharing": ("#0173B2", "o", "-"),
    "oracle": ("#000000", "d", "--"),
}
COLOURS = ("#DE8F05", "#029E73", "#CC78BC", "#56B4E9", "#D55E00", "#8C613C", "#ECB60A", "#5E3C99")
MARKERS = ("^", "D", "v", "P", "X", "*", "<", ">")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (3, 1, 1, 1)),
    (0, (6, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
    (0, (8, 2, 2, 2)),
)
POINTS_OF_A_CURVE = 100
LABELLED_DIRECTLY = 4  # lines at most; of more, a legend is read faster

Roles = Mapping[str, tuple[str, str, str]]
# Of the book's claims: the name in the key, colour, marker.
ROLES: Roles = {
    "mechanism present": ("constructed data", "#0173B2", "o"),
    "real data": ("real data", "#D55E00", "D"),
    "mechanism off": ("control (mechanism off)", "#6E6E6E", "s"),
}


def theme() -> None:
    """Set the look of every figure of the book."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette=[COLOURS[0], FIXED["hard sharing"][0], *COLOURS[1:]],
        font_scale=1.15,
        rc={
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",  # matplotlib brings it: the same on every machine
            "grid.color": "0.9",
            "grid.linewidth": 0.8,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.5,
        },
    )


def sweep(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    xlabel: str,
    ylabel: str,
    hue: str | None = None,
    style: str | None = None,
    order: Sequence[object] | None = None,
    log_x: bool = False,
    log_y: bool = False,
    references: Mapping[str, Any] | None = None,
    fits: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    smallest: float | None = None,
) -> Figure:
    """A metric, or a difference, against a setting: mean and interval over seeds at each setting.

    Points stand at the values that were measured, which the axis carries as its ticks. Few lines
    are labelled at their ends, more by a legend where no data are.

    Arguments:
        frame: a row per seed, setting and series.
        x: the column of the setting; text is placed in the order in which it comes.
        y: the column of the metric. For paired differences give the difference of each seed, with
            `references={"single-task": 0.0}` for the line of no difference.
        xlabel: what the setting is, with its unit.
        ylabel: what the metric is, with its unit.
        hue: the column of the method, which decides the colour. Numbers run from light to dark.
        style: the column of the condition, which decides line style and marker (without it each
            method has a marker of its own).
        order: the methods in the order of the legend; default: as they come.
        log_x: a logarithmic axis; 0 keeps its place left of the smallest positive value.
        log_y: a logarithmic axis of the metric.
        references: horizontal lines by name: a number, or a value per seed (mean and interval).
        fits: functions of x by name, drawn as thin lines without markers or intervals; a name that
            begins with a method's ("hard sharing: a + b/N") has that method's colour.
        smallest: shades ±`smallest`, the differences too small to matter.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    settings = list(dict.fromkeys(frame[x]))
    numeric = pd.api.types.is_numeric_dtype(frame[x])
    if not numeric:
        places = {name: place for place, name in enumerate(settings)}
        frame = frame.assign(**{x: [float(places[name]) for name in frame[x]]})
    values = np.unique(frame[x].to_numpy(dtype=np.float64))
    if log_x:
        _logarithmic(axes, values)
    if log_y:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if smallest is not None:
        axes.axhspan(-smallest, smallest, color="0.93", zorder=0, linewidth=0)
    series = _lines(axes, frame, x, y, hue, style, order, errors="bars")
    lines = _references(axes, references or {})
    lines += _fits(axes, fits or {}, series, values, log_x)
    if log_y:
        _plain_ticks(axes)
    band = [Patch(color="0.93", label="too small to matter")] if smallest is not None else []
    _name_lines(axes, series, lines, band)
    if numeric:
        _measured_ticks(axes, values, log_x)
    else:
        axes.set_xticks(range(len(settings)), labels=[str(name) for name in settings])
    return figure


def learning_curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str,
    xlabel: str,
    ylabel: str,
    style: str | None = None,
    order: Sequence[object] | None = None,
    log_y: bool = False,
    references: Mapping[str, Any] | None = None,
) -> Figure:
    """A quantity while training, or any function: the mean over seeds with its band.

    Colour is the method (`hue`), line style the part (`style`: training and validation, say;
    without it each method has a line style of its own). Of longer histories 100 evenly spaced steps
    are drawn. `references` are as in :func:`sweep`.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    steps = np.unique(frame[x])
    if len(steps) > POINTS_OF_A_CURVE:
        drawn = steps[np.linspace(0, len(steps) - 1, POINTS_OF_A_CURVE).round().astype(int)]
        frame = frame.loc[frame[x].isin(drawn.tolist())]
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    if log_y:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    series = _lines(axes, frame, x, y, hue, style, order, errors="band")
    lines = _references(axes, references or {})
    if log_y:
        _plain_ticks(axes)
    _name_lines(axes, series, lines, [])
    return figure


def effects(
    frame: pd.DataFrame,
    *,
    label: str,
    xlabel: str,
    smallest: float | None = None,
    group: str | None = None,
    hue: str | None = None,
    order: Sequence[object] | None = None,
    digits: int | None = None,
    estimate: str = "estimate",
    low: str = "low",
    high: str = "high",
) -> Figure:
    """A forest plot: paired effects with their intervals, from top to bottom in the frame's order.

    A filled marker is an effect whose interval excludes 0. The band is ±`smallest`, the effects
    too small to matter.

    Arguments:
        frame: a row per effect.
        label: the column of the rows' names. Rows of one name and group share a line.
        xlabel: what the effect is, with its unit and direction.
        smallest: the smallest effect that would matter.
        group: the column of headings; rows of one heading stand together.
        hue: the column of the method, which decides colour and marker.
        order: the methods in the order of the legend; default: as they come.
        digits: writes each effect with its interval at the right, with so many digits.
        estimate: the column of the effects.
        low: the column of the lower ends of the intervals.
        high: the column of the upper ends.
    """
    _labelled(xlabel=xlabel)
    names = [None] if hue is None else _order(frame, hue, order)
    looks = {name: (look.colour, look.marker) for name, look in _looks(names).items()}
    figure, axes = _forest(
        frame, label, group, hue, looks, (estimate, low, high), digits=digits, width=WIDTH
    )
    axes.set_xlabel(xlabel)
    handles: list[Artist] = []
    if hue is not None:
        handles = [_marker(str(name), *looks[name]) for name in names]
    if smallest is not None:
        axes.axvspan(-smallest, smallest, color="0.92", zorder=0, linewidth=0)
        handles.append(Patch(color="0.92", label="too small to matter"))
    if handles:
        _key(figure, handles)
    return figure


def forest(
    frame: pd.DataFrame,
    *,
    label: str = "label",
    section: str | None = "section",
    role: str = "role",
    smallest: str = "smallest",
    estimate: str = "estimate",
    low: str = "low",
    high: str = "high",
    limit: float = 8.0,
    xlabel: str = "effect, in multiples of the smallest that would matter (δ)",
    width: float = 8.0,
) -> Figure:
    """The book's verdicts: a row per claim by section; constructed, real data and control apart.

    Effects have different units, so each is divided by its `smallest`, the effect that would
    matter: beyond the dotted line at 1 it does. What lies beyond ±`limit` is drawn at the border as
    an arrow. A filled marker is an effect whose interval excludes 0. Roles are those of
    `claims.toml`: "mechanism present", "mechanism off" (the control) and "real data". Rows of one
    label and section share a line; without `section` there are no headings.
    """
    unknown = set(frame[role]) - set(ROLES)
    if unknown:
        raise UsageError(f"roles are {', '.join(ROLES)}, not {', '.join(map(str, unknown))}")
    scaled = frame.assign(**{end: frame[end] / frame[smallest] for end in (estimate, low, high)})
    looks = {name: look[1:] for name, look in ROLES.items()}
    figure, axes = _forest(
        scaled, label, section, role, looks, (estimate, low, high), width=width, limit=limit
    )
    for side in (-1, 1):
        axes.axvline(side, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    ticks = [tick for tick in range(-int(limit), int(limit) + 1) if tick % 2 == 0 or abs(tick) == 1]
    names = {-1: "−δ", 0: "0", 1: "δ"}
    axes.set_xticks(ticks, [names.get(tick, str(tick).replace("-", "−")) for tick in ticks])
    axes.set_xlabel(xlabel)
    present = [name for name in ROLES if name in set(frame[role])]
    _key(figure, [_marker(*ROLES[name]) for name in present])
    return figure


def matrix(
    values: Float[np.ndarray, "height width"] | Mapping[str, Float[np.ndarray, "height width"]],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    label: str,
    xlabel: str = "",
    ylabel: str = "",
    digits: int | None = 2,
    root: bool = False,
    limit: float | None = None,
) -> Figure:
    """A matrix, or several side by side, as a heat map with a colour bar.

    Where a value is negative the colours diverge from 0, else they run from light to dark.

    Arguments:
        values: the matrix, or matrices of one shape by their titles, which share the colours.
        rows: names of the rows; None: not named, as of many features.
        columns: names of the columns; None: not named.
        label: what a value is, for the colour bar.
        xlabel: what the columns are.
        ylabel: what the rows are.
        digits: of the numbers in the cells; None: no numbers.
        root: colours by the square root of the value, so that small shares can be seen.
        limit: the value of the last colour; default: the largest.
    """
    _labelled(label=label)
    panels = dict(values) if isinstance(values, Mapping) else {"": values}
    shapes = {np.shape(panel) for panel in panels.values()}
    if len(shapes) != 1:
        raise UsageError(f"matrices side by side have one shape, not {sorted(shapes)}")
    ((height, across),) = shapes
    every = np.stack(list(panels.values()))
    signed = bool((every < 0).any())
    if root and signed:
        raise UsageError("colours by the square root need values that are not negative")
    top = limit or float(np.abs(every).max()) or 1.0
    norm = PowerNorm(0.5, 0.0, top) if root else Normalize(-top if signed else 0.0, top)
    cell = 0.62 if digits is not None else min(0.3, 3.4 / height)
    wide = max(0.9, 0.85 * across if digits is not None else min(0.3 * across, 4.6 / len(panels)))
    figure = Figure(figsize=(max(3.2, 1.7 + wide * len(panels)), 0.9 + max(1.0, cell * height)))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (axes, (title, panel)) in enumerate(zip(grid, panels.items(), strict=True)):
        write = np.vectorize(lambda value: _fixed(value, digits or 0), otypes=[object])
        sns.heatmap(
            np.asarray(panel),
            ax=axes,
            annot=False if digits is None else write(np.asarray(panel)),
            fmt="",
            cmap="vlag" if signed else "Blues",
            norm=norm,
            xticklabels=False if columns is None else list(columns),
            yticklabels=False if rows is None else list(rows),
            linewidths=1 if digits is not None else 0,
            cbar=False,
        )
        axes.tick_params(length=0)
        axes.tick_params(axis="y", rotation=0)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel if place == 0 else "")
        axes.grid(visible=False)
        if digits is None:
            axes.spines[:].set_visible(True)
    figure.colorbar(grid[0].collections[0], ax=list(grid), label=label, pad=0.02)
    return figure


def predictions(
    points: pd.DataFrame,
    curves: pd.DataFrame,
    *,
    x: str,
    y: str,
    panel: str,
    hue: str,
    xlabel: str,
    ylabel: str,
    order: Sequence[object] | None = None,
    points_label: str = "training examples",
) -> Figure:
    """Predicted curves over the data, a panel per task: mean and band over seeds.

    `points` holds x, y and the panel of the data that are shown; `curves` x, y, panel, hue and a
    row per seed of what is predicted.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure, panels = _panels(list(dict.fromkeys(curves[panel])), 2.2)
    names = _order(curves, hue, order)
    for name, axes in panels.items():
        shown, own = points.loc[points[panel] == name], curves.loc[curves[panel] == name]
        axes.scatter(shown[x], shown[y], s=16, color=GREY, linewidths=0)
        _lines(axes, own, x, y, hue, None, names, errors="band")
    looks = _looks(names, lines=True)
    handles = [_line(str(name), look) for name, look in looks.items()]
    _key(figure, [_marker(points_label, GREY, "."), *handles])
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
    return figure


def scatter(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str,
    xlabel: str,
    ylabel: str,
    style: str | None = None,
    panel: str | None = None,
    order: Sequence[object] | None = None,
    equal: bool = False,
) -> Figure:
    """Points of examples: colour is the class, marker the domain, each with its key.

    Arguments:
        frame: a row per point.
        x: the column across.
        y: the column upwards.
        hue: the column of the class: at most ten.
        xlabel: what is across.
        ylabel: what is upwards.
        style: the column that decides the marker.
        panel: the column of the panels, which share their axes.
        order: the classes in the order of the key; default: as they come.
        equal: draws a unit of x as long as a unit of y.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure, panels = _panels([""] if panel is None else list(dict.fromkeys(frame[panel])), 2.7)
    classes = _order(frame, hue, order)
    if len(classes) > len(sns.color_palette("colorblind")):
        raise UsageError(f"a figure tells at most ten classes apart, not {len(classes)}")
    if len(classes) <= len(COLOURS):
        fixed = {name: look.colour for name, look in _looks(classes).items()}
    else:
        fixed = dict(zip(classes, sns.color_palette("colorblind"), strict=False))
    parts = [None] if style is None else list(dict.fromkeys(frame[style]))
    markers = dict(zip(parts, ("o", "x", "^", "+"), strict=False))
    if len(markers) < len(parts):
        raise UsageError(f"a figure tells at most {len(markers)} markers apart, not {len(parts)}")
    for name, axes in panels.items():
        own = frame if panel is None else frame.loc[frame[panel] == name]
        for part, marker in markers.items():
            shown = own if part is None else own.loc[own[str(style)] == part]
            colours = [fixed[value] for value in shown[hue]]
            axes.scatter(
                shown[x], shown[y], s=18, marker=marker, c=colours, alpha=0.75, linewidths=1
            )
        if equal:
            axes.set_aspect("equal")
    keys = [_marker(str(name), fixed[name], "o") for name in classes]
    parts_key = [_marker(str(part), INK, marker) for part, marker in markers.items()]
    _key(figure, keys, *([parts_key] if style is not None else []))
    for axes in panels.values():
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.label_outer()
    return figure


def trade_off(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    label: str,
    xlabel: str,
    ylabel: str,
    hue: str | None = None,
    order: Sequence[object] | None = None,
) -> Figure:
    """Two tasks' metrics against each other: mean and interval over seeds in both directions.

    A point per value of `label` ("w = 0.3", say), which is written beside it where there is room;
    the points of one `hue` are joined in the order in which they come in the frame.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.75 * WIDTH))
    axes = figure.subplots()
    names = [None] if hue is None else _order(frame, hue, order)
    points = []
    handles = []
    for name, look in _looks(names).items():
        own = frame if name is None else frame.loc[frame[hue] == name]
        texts = list(dict.fromkeys(own[label]))
        places = [own.loc[own[label] == text] for text in texts]
        means = np.array([[place[x].mean(), place[y].mean()] for place in places])
        look = replace(look, dash="none") if len(texts) == 1 else look
        handles.append(_line(str(name), look))
        intervals = np.array([[_interval(place[x]), _interval(place[y])] for place in places])
        distances = np.abs(intervals - means[:, :, None])  # points × axes × (below, above)
        axes.errorbar(
            *means.T,
            xerr=distances[:, 0].T,
            yerr=distances[:, 1].T,
            color=look.colour,
            marker=look.marker,
            linestyle=look.dash,
            elinewidth=1,
            capsize=2,
            label=name,
        )
        points += [(str(text), mean) for text, mean in zip(texts, means, strict=True)]
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _beside_points(axes, points)
    if hue is not None:
        _legend(axes, handles)
    return figure


def pictures(
    rows: Sequence[Sequence[Float[np.ndarray, "..."]]],
    columns: Sequence[str],
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """A table of pictures: a row for each scene or example, a named column for each kind.

    Pictures of the shape (height, width, 3) have colours from 0 to 1. Those of two axes are values,
    drawn from dark (the least of the column) to light (its largest).

    Arguments:
        rows: the pictures of each row, one for each of the columns.
        columns: the names of the columns.
        classes: for columns that hold numbers of classes, their names, which come into a key.
        units: for columns of values, what they are: the text of a colour bar below the column.
    """
    if not rows or any(len(row) != len(columns) for row in rows):
        raise UsageError(f"each row of pictures has one for each of the columns {list(columns)}")
    classes, units = classes or {}, units or {}
    unknown = (set(classes) | set(units)) - set(columns)
    if unknown:
        raise UsageError(f"there is no column {', '.join(unknown)} among {list(columns)}")
    across = len(columns)
    below = 0.3 * bool(units) + 0.25 * bool(classes)
    figure = Figure(figsize=(WIDTH, 0.3 + WIDTH / across * len(rows) + below))
    grid = figure.subplots(len(rows), across, squeeze=False)
    keys: list[Artist] = []
    for place, name in enumerate(columns):
        own = [np.asarray(row[place]) for row in rows]
        limits = {"vmin": min(v.min() for v in own), "vmax": max(v.max() for v in own)}
        look: dict[str, Any] = {"cmap": "cividis", **limits}
        if name in classes:
            shades = sns.color_palette("colorblind", len(classes[name]))
            look = {"cmap": ListedColormap(shades), "vmin": -0.5, "vmax": len(shades) - 0.5}
            keys += [
                Patch(color=c, label=text) for c, text in zip(shades, classes[name], strict=True)
            ]
        for axes, values in zip(grid[:, place], own, strict=True):
            shown = values.clip(0, 1) if values.ndim == 3 else values
            image = axes.imshow(shown, interpolation="nearest", **look)
            axes.set_axis_off()
            if name in units and axes is grid[-1, place]:
                bar = figure.colorbar(
                    image, ax=list(grid[:, place]), orientation="horizontal", label=units[name],
                    fraction=0.05, pad=0.02, aspect=12, ticks=MaxNLocator(2),
                )  # fmt: skip
                bar.ax.grid(visible=False)
        grid[0, place].set_title(name)
    if keys:
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), handlelength=1)
    return figure


# What the kinds have in common --------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    colour: Any
    marker: str
    dash: Any


@dataclass(frozen=True)
class _Series:
    """A line of means with its intervals."""

    name: str  # of the method
    part: str  # the condition
    look: _Look
    x: np.ndarray
    means: np.ndarray


@dataclass(frozen=True)
class _Named:
    """A line that is labelled at its right end."""

    text: str
    height: float  # of the end, in data
    colour: Any
    handle: Line2D | None = None


def _labelled(**labels: str) -> None:
    for name, text in labels.items():
        if not text.strip():
            raise UsageError(f"a figure needs {name}: what it shows, with the unit")


def _order(frame: pd.DataFrame, hue: str, order: Sequence[object] | None) -> list[Any]:
    present = list(dict.fromkeys(frame[hue]))
    if order is None:
        return present
    if set(order) != set(present):
        raise UsageError(
            f"order must hold exactly the values of {hue!r}: {', '.join(map(str, present))}"
        )
    return list(order)


def _looks(names: Sequence[Any], *, lines: bool = False) -> dict[Any, _Look]:
    """The look of each series: fixed by its name, else the next of the palette.

    Numbers are an order, not methods: they run from light to dark. `lines`: without markers, so
    that dashes differ.
    """
    if list(names) == [None]:
        return {None: _Look(COLOURS[0], "" if lines else "o", "-")}
    free = [name for name in names if name not in FIXED]
    if len(free) > len(COLOURS):
        raise UsageError(f"a figure tells at most {len(COLOURS)} series apart, not {len(free)}")
    colours: Sequence[Any] = COLOURS
    if len(free) > 1 and all(isinstance(name, int | float | np.number) for name in free):
        colours = sns.color_palette("flare", len(free))
    looks = {name: _Look(*FIXED[name]) for name in names if name in FIXED}
    dashes = [one for one in DASHES if one not in {look.dash for look in looks.values()}]
    looks |= {
        name: _Look(colour, marker, dash)
        for name, colour, marker, dash in zip(
            free, colours, MARKERS, cycle(dashes if lines else ["-"]), strict=False
        )
    }
    return {name: replace(looks[name], marker="") if lines else looks[name] for name in names}


def _text(column: str | None, value: Any) -> str:
    """What a series is called: numbers with the name of their column."""
    if value is None:
        return ""
    is_number = isinstance(value, int | float | np.number)
    return f"{column} = {_number(float(value))}" if is_number else str(value)


def _interval(values: Iterable[float]) -> tuple[float, float]:
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return math.nan, math.nan
    # Of equal values the interval and the mean differ by rounding, and no bar may be negative.
    low, high = interval(array)
    return min(low, float(array.mean())), max(high, float(array.mean()))


def _lines(
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None,
    style: str | None,
    order: Sequence[object] | None,
    *,
    errors: Literal["band", "bars"],
) -> list[_Series]:
    """Lines of means over seeds with their intervals."""
    names = [None] if hue is None else _order(frame, hue, order)
    parts = [None] if style is None else list(dict.fromkeys(frame[style]))
    if len(parts) > len(MARKERS):
        raise UsageError(f"a figure tells at most {len(MARKERS)} conditions apart")
    series = []
    for name, of_hue in _looks(names, lines=errors == "band").items():
        for number, part in enumerate(parts):
            own = frame if name is None else frame.loc[frame[hue] == name]
            own = own if part is None else own.loc[own[style] == part]
            if own.empty:
                continue
            look = of_hue
            if len(parts) > 1:
                marker = ("o", *MARKERS)[number] if look.marker else ""
                look = _Look(look.colour, marker, DASHES[number])
            groups = [(at, group.to_numpy(np.float64)) for at, group in own.groupby(x)[y]]
            at = np.array([setting for setting, _ in groups], dtype=np.float64)
            means = np.array([values.mean() for _, values in groups])
            low, high = np.array([_interval(values) for _, values in groups]).T
            line = {"color": look.colour, "linestyle": look.dash, "zorder": 2.5}
            if errors == "band":
                axes.plot(at, means, **line)
                axes.fill_between(at, low, high, color=look.colour, alpha=0.18, linewidth=0)
            else:
                # Nothing is moved off its place: bars at one setting differ by their caps' width.
                axes.errorbar(
                    at,
                    means,
                    yerr=[means - low, high - means],
                    marker=look.marker,
                    elinewidth=1.1,
                    capsize=2.0 + min(len(series), 3),
                    **line,
                )
            series.append(_Series(_text(hue, name), _text(style, part), look, at, means))
    return series


def _references(axes: Axes, references: Mapping[str, Any]) -> list[_Named]:
    named = []
    for (name, value), dash in zip(references.items(), cycle(["--", ":", "-."]), strict=False):
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
        height = float(values.mean())
        colour, _, dash = FIXED.get(name, (GREY, "", "-" if height == 0 else dash))
        if len(values) > 1:
            axes.axhspan(*_interval(values), color=colour, alpha=0.12, zorder=0.5, linewidth=0)
        line = axes.axhline(
            height, color=colour, linestyle=dash, linewidth=1.3, zorder=1, label=name
        )
        named.append(_Named(name, height, colour, line))
    return named


def _fits(
    axes: Axes,
    fits: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    series: Sequence[_Series],
    settings: Float[np.ndarray, "settings"],
    log_x: bool,
) -> list[_Named]:
    named = []
    low, high = settings[settings > 0].min() if log_x else settings.min(), settings.max()
    at = np.geomspace(low, high, 200) if log_x else np.linspace(low, high, 200)
    for name, function in fits.items():
        colours = [one.look.colour for one in series if one.name and name.startswith(one.name)]
        colour = colours[0] if colours else INK
        heights = np.asarray(function(at), dtype=np.float64)
        (line,) = axes.plot(at, heights, color=colour, linewidth=1.0, zorder=2, label=name)
        named.append(_Named(name, float(heights[-1]), colour, line))
    return named


def _name_lines(
    axes: Axes, series: Sequence[_Series], lines: Sequence[_Named], band: Sequence[Artist]
) -> None:
    """Label the lines at their ends where there is room, else in a legend."""
    looks = {one.name: one.look for one in series if one.name}
    of_part = {one.part: replace(one.look, colour=INK) for one in series if one.part}
    methods: list[Artist] = []
    others: list[Artist] = list(band)
    ends = [_Named(one.name, float(one.means[-1]), one.look.colour) for one in series if one.name]
    same_end = len({one.x.max() for one in series}) == 1
    few = len(of_part) < 2 and len(looks) <= LABELLED_DIRECTLY and same_end
    if not (few and _label_ends(axes, [*ends, *lines])):
        if len(of_part) < 2:
            methods = [_line(name, look) for name, look in looks.items()]
        else:
            if len(looks) > 1:
                methods = [Patch(color=look.colour, label=name) for name, look in looks.items()]
            others = [*(_line(part, look) for part, look in of_part.items()), *others]
        if not _label_ends(axes, lines):
            others += [one.handle for one in lines if one.handle]
    _legend(axes, *(group for group in (methods, others) if group))


def _label_ends(axes: Axes, lines: Sequence[_Named]) -> bool:
    """Write names to the right of the axes, at the lines' ends; False where too crowded."""
    if not lines:
        return True
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    point = figure.dpi / 72
    lines = sorted(lines, key=lambda line: line.height)
    texts = [textwrap.fill(line.text, 18) for line in lines]
    right = axes.get_xlim()[1]
    heights = axes.transData.transform([(right, line.height) for line in lines])[:, 1] / point
    room = np.array([12.5 * (text.count("\n") + 1) for text in texts])
    places = heights.copy()
    for _ in range(100):
        for low, high in pairwise(range(len(lines))):
            lack = (room[low] + room[high]) / 2 - (places[high] - places[low])
            if lack > 0:
                places[low] -= lack / 2
                places[high] += lack / 2
    if np.abs(places - heights).max() > 16 or max(text.count("\n") for text in texts) > 2:
        return False
    for line, text, place, height in zip(lines, texts, places, heights, strict=True):
        axes.annotate(
            text,
            (1, line.height),
            xycoords=("axes fraction", "data"),
            xytext=(5, place - height),
            textcoords="offset points",
            va="center",
            color=[0.75 * part for part in to_rgb(line.colour)],  # dark enough to be read
            fontsize="small",
            linespacing=1.0,
            annotation_clip=False,
        )
    return True


def _legend(axes: Axes, *groups: Sequence[Artist]) -> None:
    """A legend inside the axes where it lies on nothing; where there is no such place, above."""
    handles = [handle for group in groups for handle in group]
    if not handles:
        return
    taken = _taken(axes)
    inside = axes.bbox.padded(2)
    for columns, *place in product((1, 2), ("upper", "lower"), ("right", "left", "center")):
        look: Any = {"loc": " ".join(place), "ncols": columns, "handlelength": 2.4}
        box = axes.legend(handles=handles, **look).get_window_extent().padded(3)
        within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.height < inside.height / 2
        if within and not box.count_contains(taken):
            return
    _key(axes, *groups)


def _key(above: Axes | Figure, *groups: Sequence[Artist]) -> None:
    """A legend above axes or panels: in one row, a row for each group, or as columns as fit."""
    handles = [handle for group in groups for handle in group]
    most = max(len(group) for group in groups)
    blank = Line2D([], [], linestyle="none", label=" ")
    # Legends are filled column by column.
    by_group = [group[n] if n < len(group) else blank for n in range(most) for group in groups]
    choices = [(handles, len(handles)), (by_group, most)] if len(groups) > 1 else []
    choices += [(handles, columns) for columns in range(len(handles), 0, -1)]
    look: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    if isinstance(above, Figure):
        look = {"loc": "outside upper center"}
    for chosen, columns in choices:
        for legend in above.legends if isinstance(above, Figure) else ():
            legend.remove()
        legend = above.legend(handles=chosen, ncols=columns, handlelength=2.4, **look)
        if legend.get_window_extent().width <= above.bbox.width:
            return


def _taken(axes: Axes) -> np.ndarray:
    """Points of the screen where something is drawn, close enough to each other to be a line."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    paths = [line.get_transform().transform_path(line.get_path()).vertices for line in axes.lines]
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            paths += [collection.get_offset_transform().transform(collection.get_offsets())]
        else:
            turn = collection.get_transform()
            paths += [turn.transform_path(path).vertices for path in collection.get_paths()]
    for text in axes.texts:
        extent = text.get_window_extent()
        paths.append(extent.corners()[[0, 1, 3, 2, 0]])
    points = [np.empty((0, 2))]
    for path in paths:
        shown = np.asarray(path)[np.isfinite(path).all(axis=1)]
        points.append(shown)
        for start, end in pairwise(shown):
            steps = int(np.abs(end - start).max() // 3)
            points.append(np.linspace(start, end, min(steps, 2000) + 2))
    return np.concatenate(points)


def _beside_points(axes: Axes, points: Sequence[tuple[str, Float[np.ndarray, "2"]]]) -> None:
    """Write a text beside each point, where it covers least of what is drawn."""
    taken = _taken(axes)
    halo = [withStroke(linewidth=3, foreground="white")]
    sides = {-1: ("right", "top"), 0: ("center", "center"), 1: ("left", "bottom")}
    for text, (across, upwards) in points:
        choices: list[tuple[float, Annotation]] = []
        for far, right, up in product((5, 9, 14), (1, -1, 0), (1, -1, 0)):
            label = axes.annotate(
                text,
                (across, upwards),
                xytext=(far * right, far * up),
                textcoords="offset points",
                ha=sides[right][0],
                va=sides[up][1],
                fontsize="small",
                path_effects=halo,
            )
            box = label.get_window_extent()
            outside = box.x0 < axes.bbox.x0 or box.x1 > axes.bbox.x1
            choices.append((box.count_contains(taken) + far + 500 * outside, label))
        _, best = min(choices, key=lambda choice: choice[0])
        for _, label in choices:
            if label is not best:
                label.remove()
        box = best.get_window_extent()
        grid = np.meshgrid(np.linspace(box.x0, box.x1, 12), np.linspace(box.y0, box.y1, 4))
        taken = np.concatenate([taken, np.stack(grid, axis=-1).reshape(-1, 2)])


def _forest(
    frame: pd.DataFrame,
    label: str,
    group: str | None,
    hue: str | None,
    looks: Mapping[Any, tuple[Any, str]],
    ends: tuple[str, str, str],
    *,
    width: float,
    digits: int | None = None,
    limit: float | None = None,
) -> tuple[Figure, Axes]:
    """Rows of effects with their intervals, under headings."""
    step = 0.09 if digits is None else 0.15  # inches between the marks of one row
    texts: list[tuple[float, str, bool]] = []  # of each line: its place, text, and if a heading
    marks: list[tuple[float, Any, np.ndarray]] = []
    down = 0.0
    for heading in [None] if group is None else dict.fromkeys(frame[group]):
        of_group = frame if heading is None else frame.loc[frame[group] == heading]
        if heading is not None:
            texts.append((down + 0.14, str(heading), True))
            down += 0.26
        for name in dict.fromkeys(of_group[label]):
            own = of_group.loc[of_group[label] == name]
            kinds = [None] * len(own) if hue is None else list(own[hue])
            room = 0.13 + step * len(own)
            numbers = own[list(ends)].to_numpy(np.float64)
            for number, (kind, values) in enumerate(zip(kinds, numbers, strict=True)):
                marks.append((down + 0.065 + step * (number + 0.5), kind, values))
            texts.append((down + room / 2, str(name), False))
            down += room
    figure = Figure(figsize=(width, 0.9 + down))
    axes = figure.subplots()
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    for row, kind, (middle, start, end) in marks:
        colour, marker = looks[kind]
        clear = start > 0 or end < 0
        # The interval by its own ends: of a skewed sample, or by rounding where all seeds agree,
        # it need not contain the estimate.
        axes.errorbar(
            (start + end) / 2, row, xerr=(end - start) / 2, fmt="none", ecolor=colour, capsize=2.5,
            elinewidth=1.3,
        )  # fmt: skip
        shown = middle if limit is None else min(max(middle, -limit), limit)
        beyond = {-1: "<", 0: marker, 1: ">"}[int(np.sign(middle - shown))]
        axes.plot(
            shown, row, beyond, color=colour, markerfacecolor=colour if clear else "white",
            clip_on=False, zorder=3,
        )  # fmt: skip
        if digits is not None:
            written = [f"{value:+.{digits}f}".replace("-", "−") for value in (middle, start, end)]
            axes.annotate(
                f"{written[0]} [{written[1]}, {written[2]}]",
                (1, row),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                annotation_clip=False,
            )
    axes.set_yticks([place for place, *_ in texts], labels=[text for _, text, _ in texts])
    axes.set_ylim(down, 0)
    if limit is not None:
        axes.set_xlim(-limit, limit)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    if group is not None:
        ticks = axes.get_yticklabels()
        for tick, (place, _, heading) in zip(ticks, texts, strict=True):
            tick.set_horizontalalignment("left")
            tick.set_fontweight("bold" if heading else "normal")
            if heading:
                axes.axhline(place - 0.14, color="0.85", linewidth=0.8, zorder=0)
        figure.draw_without_rendering()
        widest = max(tick.get_window_extent().width for tick in ticks) * 72 / figure.dpi
        axes.tick_params(axis="y", pad=widest + 4)
    return figure, axes


def _panels(names: Sequence[Any], height: float) -> tuple[Figure, dict[Any, Axes]]:
    """A panel by name, at most three in a row, with one scale."""
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=({1: 4.2}.get(across, WIDTH + 1.4 * (across > 2)), 0.8 + height * down))
    grid = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(names) - across) : len(names)]:
        axes.tick_params(labelbottom=True)  # also above an empty place
    panels = dict(zip(names, grid, strict=False))
    for name, axes in panels.items():
        axes.set_title(str(name))
    return figure, panels


def _line(text: str, look: _Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, label=text)


def _marker(text: str, colour: Any, marker: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=text)


def _logarithmic(axes: Axes, values: Float[np.ndarray, "settings"]) -> None:
    positive = values[values > 0]
    if len(positive) == len(values):
        axes.set_xscale("log")
        return
    smallest, largest = float(positive[0]), float(positive[-1])
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xlim(-0.4 * smallest, largest * 1.6)


def _measured_ticks(axes: Axes, values: Float[np.ndarray, "settings"], log_x: bool) -> None:
    """Ticks at the values that were measured; where they are too close, some without a number."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    axes.xaxis.set_minor_locator(NullLocator())
    before = axes.get_xlim(), axes.xaxis.get_major_locator()
    texts = [_number(value) for value in values]
    axes.set_xticks(values, texts)
    axes.set_xlim(before[0])
    figure.draw_without_rendering()
    extents = [tick.get_window_extent().padded(2) for tick in axes.get_xticklabels()]
    shown: list[int] = []
    for place in [0, len(values) - 1, *range(1, len(values) - 1)]:
        if place not in shown and not any(
            extents[place].overlaps(extents[other]) for other in shown
        ):
            shown.append(place)
    if len(shown) == len(values):
        return
    if log_x:
        axes.set_xticks(values, [text if n in shown else "" for n, text in enumerate(texts)])
    else:
        whole = bool((values == values.round()).all())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=whole))
    axes.set_xlim(before[0])


def _plain_ticks(axes: Axes) -> None:
    """Numbers such as 0.2, 0.5 and 1 on a logarithmic axis of values."""
    low, high = axes.get_ylim()
    powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = np.sort(np.outer(powers, steps).ravel())
        ticks = ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]
        if len(ticks) >= 4:
            break
    axes.set_yticks(ticks, [_number(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)


def _number(value: float) -> str:
    """A number of an axis: 0.05, 512, 10⁻⁴."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.6g}".replace("-", "−")
    mantissa, power = f"{value:.3e}".split("e")
    factor = "" if float(mantissa) == 1 else f"{float(mantissa):g}\\times"
    return f"${factor}10^{{{int(power)}}}$"


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
