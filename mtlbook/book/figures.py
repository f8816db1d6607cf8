"""The book's figure kinds on seaborn: colour-blind safe, readable in grey, the same bytes twice.

Series differ by colour, marker and line style at once. Every interval is the 95 % BCa interval
over seeds of :func:`mtlbook.statistics.interval`, the same as in the tables. Frames are tidy: a row
per seed × whatever is compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from mtlbook.errors import UsageError
from mtlbook.statistics import interval

WIDTH = 6.4  # inches
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[tuple[float, ...] | str, ...] = (
    "",
    (4, 1.5),
    (1, 1),
    (3, 1, 1, 1),
    (6, 1),
    (5, 1, 1, 1, 1, 1),
    (2, 2),
    (8, 2, 2, 2),
)
GREY = "0.45"
POINTS_OF_A_CURVE = 100


def theme() -> None:
    """Set the look of every figure of the book."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
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


def effects(
    frame: pd.DataFrame,
    *,
    label: str,
    xlabel: str,
    smallest: float | None = None,
    estimate: str = "estimate",
    low: str = "low",
    high: str = "high",
) -> Figure:
    """Effects with their intervals, one row each, from top to bottom in the frame's order.

    A filled marker is an effect whose interval excludes 0. The band is ±`smallest`, the effects
    too small to matter.
    """
    _labelled(xlabel=xlabel)
    figure = Figure(figsize=(WIDTH, 1.0 + 0.36 * len(frame)))
    axes = figure.subplots()
    if smallest is not None:
        axes.axvspan(-smallest, smallest, color="0.9", zorder=0, label="too small to matter")
    axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    (colour,) = _palette(1)
    for row, (middle, start, end) in enumerate(frame[[estimate, low, high]].to_numpy()):
        clear = start > 0 or end < 0
        # The interval by its own ends: of a skewed sample, or by rounding where all seeds agree,
        # it need not contain the estimate.
        axes.errorbar(
            (start + end) / 2, row, xerr=(end - start) / 2, fmt="none", ecolor=colour, capsize=3
        )
        axes.plot(middle, row, "o", color=colour, markerfacecolor=colour if clear else "white")
    axes.set_yticks(range(len(frame)), labels=frame[label].astype(str))
    axes.set_ylim(len(frame) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(xlabel)
    if smallest is not None:
        _legend(axes)
    return figure


def learning_curves(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    hue: str,
    xlabel: str,
    ylabel: str,
    order: Sequence[object] | None = None,
    log_y: bool = False,
) -> Figure:
    """A quantity while training: the mean over seeds with its band, one line style per `hue`.

    Of longer histories 100 evenly spaced steps are drawn.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    steps = np.unique(frame[x])
    if len(steps) > POINTS_OF_A_CURVE:
        drawn = steps[np.linspace(0, len(steps) - 1, POINTS_OF_A_CURVE).round().astype(int)]
        frame = frame.loc[frame[x].isin(drawn.tolist())]
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    _lines(axes, frame, x, y, hue, order, errors="band", markers=False)
    if log_y:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _legend(axes)
    return figure


def sweep(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    xlabel: str,
    ylabel: str,
    hue: str | None = None,
    order: Sequence[object] | None = None,
    log_x: bool = False,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """A metric against a setting: mean and interval over seeds at each value of the setting.

    `references` are horizontal lines by their names, such as a baseline without the setting. With
    `log_x` a setting of 0 keeps its place left of the smallest positive value (a linear stretch
    around 0).
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    _lines(axes, frame, x, y, hue, order, errors="bars", markers=True)
    for (name, value), style in zip((references or {}).items(), cycle(["--", ":", "-."])):
        axes.axhline(value, color=GREY, linestyle=style, linewidth=1.4, label=name, zorder=1)
    if log_x:
        _logarithmic(axes, np.unique(frame[x].to_numpy(dtype=np.float64)))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if hue is not None or references:
        _legend(axes)
    return figure


def matrix(
    values: Float[np.ndarray, "height width"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    xlabel: str = "",
    ylabel: str = "",
    digits: int = 2,
) -> Figure:
    """A matrix with its numbers written in: mixing weights, task covariance, transfer gains.

    Where a value is negative the colours diverge from 0, else they run from light to dark.
    """
    _labelled(label=label)
    signed = bool((values < 0).any())
    limit = float(np.abs(values).max())
    figure = Figure(figsize=(1.6 + 0.85 * len(columns), 1.2 + 0.55 * len(rows)))
    axes = figure.subplots()
    sns.heatmap(
        values,
        ax=axes,
        annot=np.vectorize(lambda value: _fixed(value, digits))(values),
        fmt="",
        cmap="vlag" if signed else "Blues",
        vmin=-limit if signed else 0.0,
        vmax=limit,
        xticklabels=list(columns),
        yticklabels=list(rows),
        linewidths=1,
        cbar_kws={"label": label},
    )
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
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
    names = list(dict.fromkeys(curves[panel]))
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(max(WIDTH, 2.6 * across), 0.8 + 2.2 * down))
    grid = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(grid, names, strict=False):
        shown, own = points.loc[points[panel] == name], curves.loc[curves[panel] == name]
        axes.scatter(shown[x], shown[y], s=16, color=GREY, linewidths=0, label=points_label)
        _lines(axes, own, x, y, hue, order, errors="band", markers=False)
        axes.set(title=name, xlabel="", ylabel="")
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(names) - across) : len(names)]:
        axes.tick_params(labelbottom=True)  # also above an empty place
    handles, labels = grid[0].get_legend_handles_labels()
    for axes in grid:
        if axes.get_legend():
            axes.get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.supxlabel(xlabel, fontsize="medium")
    figure.supylabel(ylabel, fontsize="medium")
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

    A point per value of `label` ("w = 0.3", say), which is written beside it; the points of one
    `hue` are joined in the order in which they come in the frame.
    """
    _labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.75 * WIDTH))
    axes = figure.subplots()
    names = [None] if hue is None else _order(frame, hue, order)
    styles = zip(_palette(len(names)), MARKERS, DASHES, strict=False)
    for name, (colour, marker, dash) in zip(names, styles, strict=False):
        own = frame if name is None else frame.loc[frame[hue] == name]
        texts = list(dict.fromkeys(own[label]))
        places = [own.loc[own[label] == text] for text in texts]
        means = np.array([[place[x].mean(), place[y].mean()] for place in places])
        intervals = np.array([[_interval(place[x]), _interval(place[y])] for place in places])
        distances = np.abs(intervals - means[:, :, None])  # points × axes × (below, above)
        axes.errorbar(
            *means.T,
            xerr=distances[:, 0].T,
            yerr=distances[:, 1].T,
            color=colour,
            marker=marker,
            linestyle="none" if len(texts) == 1 else (0, dash) if dash else "-",
            elinewidth=1,
            capsize=2,
            label=name,
        )
        for text, mean in zip(texts, means, strict=True):
            axes.annotate(
                str(text),
                mean,
                xytext=(5, 5),
                textcoords="offset points",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if hue is not None:
        _legend(axes)
    return figure


def pictures(
    rows: Sequence[Sequence[Float[np.ndarray, "..."]]],
    columns: Sequence[str],
) -> Figure:
    """A table of pictures: a row for each scene or example, a named column for each kind.

    Pictures of the shape (height, width, 3) have colours from 0 to 1. Those of two axes are values,
    drawn from dark (the least of the column) to light (its largest).
    """
    if not rows or any(len(row) != len(columns) for row in rows):
        raise UsageError(f"each row of pictures has one for each of the columns {list(columns)}")
    across = len(columns)
    figure = Figure(figsize=(WIDTH, 0.3 + WIDTH / across * len(rows)))
    grid = figure.subplots(len(rows), across, squeeze=False)
    for place, name in enumerate(columns):
        own = [np.asarray(row[place]) for row in rows]
        limits = {"vmin": min(v.min() for v in own), "vmax": max(v.max() for v in own)}
        for axes, values in zip(grid[:, place], own, strict=True):
            if values.ndim == 3:
                axes.imshow(values.clip(0, 1), interpolation="nearest")
            else:
                axes.imshow(values, cmap="cividis", interpolation="nearest", **limits)
            axes.set_axis_off()
        grid[0, place].set_title(name)
    return figure


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


def _palette(count: int) -> list[tuple[float, float, float]]:
    if count > len(MARKERS):
        raise UsageError(f"a figure tells at most {len(MARKERS)} series apart, not {count}")
    return list(sns.color_palette("colorblind", count))


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
    order: Sequence[object] | None,
    *,
    errors: Literal["band", "bars"],
    markers: bool,
) -> None:
    """Lines of means over seeds with their intervals."""
    look: dict[str, Any] = {"color": _palette(1)[0], "marker": MARKERS[0] if markers else None}
    if hue is not None:
        series = _order(frame, hue, order)
        look = {
            "hue": hue,
            "hue_order": series,
            "palette": _palette(len(series)),
            "style": hue,
            "style_order": series,
            "markers": list(MARKERS[: len(series)]) if markers else False,
            "dashes": list(DASHES[: len(series)]),
        }
    if errors == "bars":
        look["err_kws"] = {"capsize": 2, "elinewidth": 1}
    # seaborn's own sorting would also sort the values of y, and a bootstrap with a fixed generator
    # depends on their order: sorted by x alone, the seeds keep the order that they have in tables.
    ordered = frame.sort_values(x, kind="stable")
    sns.lineplot(
        ordered, x=x, y=y, sort=False, errorbar=_interval, err_style=errors, ax=axes, **look
    )
    _move_apart(axes)


def _move_apart(axes: Axes) -> None:
    """Shift each series that has error bars by a few points: bars at one setting would overlap."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    bars = [list(container.get_children()) for container in axes.containers]
    of_bars = {id(artist) for series in bars for artist in series}
    # seaborn also leaves lines without points behind, for its legend.
    lines = [line for line in axes.lines if np.size(line.get_xdata()) and id(line) not in of_bars]
    for number, (line, series) in enumerate(zip(lines, bars, strict=False)):
        points = 4.0 * (number - (len(bars) - 1) / 2)
        shift = ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)
        for artist in (line, *series):
            artist.set_transform(axes.transData + shift)


def _logarithmic(axes: Axes, values: Float[np.ndarray, "settings"]) -> None:
    positive = values[values > 0]
    if len(positive) == len(values):
        axes.set_xscale("log")
        return
    smallest, largest = float(positive[0]), float(positive[-1])
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xlim(-0.4 * smallest, largest * 1.6)


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _legend(axes: Axes) -> None:
    """A legend outside of the data, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=math.ceil(len(labels) / math.ceil(len(labels) / 3)),
        borderaxespad=0.2,
        handlelength=3,
    )
