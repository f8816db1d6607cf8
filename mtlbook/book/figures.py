"""The book's figure kinds: colour-blind safe, readable in grey, the same bytes twice.

Colour says the method, the same on every page: single-task grey, hard sharing blue, the oracle
black and dashed, the page's method orange. Line style and marker say the condition or the part.
Every interval is the 95 % interval over seeds of :func:`mtlbook.statistics.interval`, the same as
in the tables. Frames are tidy: a row per seed × whatever is compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mtlbook.book import drawing
from mtlbook.book.drawing import COLOURS, FIXED, GREY, INK, WIDTH
from mtlbook.errors import UsageError

POINTS_OF_A_CURVE = 100

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
    ylim: tuple[float | int, float | int] | None = None,
    references: Mapping[str, Any] | None = None,
    fits: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    smallest: float | int | None = None,
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
        ylim: where the axis of the metric begins and ends; default: as the data need.
        references: horizontal lines by name: a number, or a value per seed (mean and interval).
        fits: functions of x by name, drawn as thin lines without markers or intervals; a name that
            begins with a method's ("hard sharing: a + b/N") has that method's colour.
        smallest: shades ±`smallest`, the differences too small to matter.
    """
    drawing.labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    settings = list(dict.fromkeys(frame[x]))
    numeric = pd.api.types.is_numeric_dtype(frame[x])
    if not numeric:
        places = {name: place for place, name in enumerate(settings)}
        frame = frame.assign(**{x: [float(places[name]) for name in frame[x]]})
    values = np.unique(frame[x].to_numpy(dtype=np.float64))
    if log_x:
        drawing.logarithmic(axes, values)
    if log_y:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if smallest is not None:
        axes.axhspan(-smallest, smallest, color="0.93", zorder=0, linewidth=0)
    series = drawing.draw_lines(axes, frame, x, y, hue, style, order, errors="bars")
    lines = drawing.draw_references(axes, references or {})
    lines += drawing.draw_fits(axes, fits or {}, series, values, log_x)
    if ylim is not None:
        axes.set_ylim(ylim)
    if log_y:
        drawing.plain_ticks(axes)
    band = [Patch(color="0.93", label="too small to matter")] if smallest is not None else []
    drawing.name_lines(axes, series, lines, band)
    if numeric:
        drawing.measured_ticks(axes, values, log_x)
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
    ylim: tuple[float | int, float | int] | None = None,
    references: Mapping[str, Any] | None = None,
) -> Figure:
    """A quantity while training, or any function: the mean over seeds with its band.

    Colour is the method (`hue`), line style the part (`style`: training and validation, say;
    without it each method has a line style of its own). Of longer histories 100 evenly spaced steps
    are drawn. `ylim` and `references` are as in :func:`sweep`.
    """
    drawing.labelled(xlabel=xlabel, ylabel=ylabel)
    steps = np.unique(frame[x])
    if len(steps) > POINTS_OF_A_CURVE:
        drawn = steps[np.linspace(0, len(steps) - 1, POINTS_OF_A_CURVE).round().astype(int)]
        frame = frame.loc[frame[x].isin(drawn.tolist())]
    figure = Figure(figsize=(WIDTH, 0.6 * WIDTH))
    axes = figure.subplots()
    if log_y:
        axes.set_yscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    series = drawing.draw_lines(axes, frame, x, y, hue, style, order, errors="band")
    lines = drawing.draw_references(axes, references or {})
    if ylim is not None:
        axes.set_ylim(ylim)
    if log_y:
        drawing.plain_ticks(axes)
    drawing.name_lines(axes, series, lines, [])
    return figure


def effects(
    frame: pd.DataFrame,
    *,
    label: str,
    xlabel: str,
    smallest: float | int | None = None,
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
    drawing.labelled(xlabel=xlabel)
    names = [None] if hue is None else drawing.ordered(frame, hue, order)
    looks = {name: (look.colour, look.marker) for name, look in drawing.looks_of(names).items()}
    figure, axes = drawing.draw_effects(
        frame, label, group, hue, looks, (estimate, low, high), digits=digits, width=WIDTH
    )
    axes.set_xlabel(xlabel)
    handles: list[Artist] = []
    if hue is not None:
        handles = [drawing.marker_handle(str(name), *looks[name]) for name in names]
    if smallest is not None:
        axes.axvspan(-smallest, smallest, color="0.92", zorder=0, linewidth=0)
        handles.append(Patch(color="0.92", label="too small to matter"))
    if handles:
        drawing.key_above(figure, handles)
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
    xlabel: str = "effect in multiples of the smallest that matters, δ (right = better)",
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
    ranks = [pd.factorize(frame[column])[0] for column in (section, label) if column]
    ranks.append(np.array([list(ROLES).index(name) for name in frame[role]]))
    scaled = scaled.iloc[np.lexsort(ranks[::-1])]
    looks = {name: look[1:] for name, look in ROLES.items()}
    figure, axes = drawing.draw_effects(
        scaled, label, section, role, looks, (estimate, low, high), width=width, limit=limit
    )
    for side in (-1, 1):
        axes.axvline(side, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    ticks = [tick for tick in range(-int(limit), int(limit) + 1) if tick % 2 == 0 or abs(tick) == 1]
    names = {-1: "−δ", 0: "0", 1: "δ"}
    axes.set_xticks(ticks, [names.get(tick, str(tick).replace("-", "−")) for tick in ticks])
    axes.set_xlabel(xlabel)
    present = [name for name in ROLES if name in set(frame[role])]
    drawing.key_above(figure, [drawing.marker_handle(*ROLES[name]) for name in present])
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
    drawing.labelled(label=label)
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
        write = np.vectorize(lambda value: drawing.fixed_text(value, digits or 0), otypes=[object])
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
    drawing.labelled(xlabel=xlabel, ylabel=ylabel)
    figure, panels = drawing.panels_of(list(dict.fromkeys(curves[panel])), 2.2)
    names = drawing.ordered(curves, hue, order)
    for name, axes in panels.items():
        shown, own = points.loc[points[panel] == name], curves.loc[curves[panel] == name]
        axes.scatter(shown[x], shown[y], s=16, color=GREY, linewidths=0)
        drawing.draw_lines(axes, own, x, y, hue, None, names, errors="band")
    looks = drawing.looks_of(names, lines=True)
    handles = [drawing.line_handle(str(name), look) for name, look in looks.items()]
    drawing.key_above(figure, [drawing.marker_handle(points_label, GREY, "."), *handles])
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
    drawing.labelled(xlabel=xlabel, ylabel=ylabel)
    figure, panels = drawing.panels_of(
        [""] if panel is None else list(dict.fromkeys(frame[panel])), 2.7
    )
    classes = drawing.ordered(frame, hue, order)
    if len(classes) > len(sns.color_palette("colorblind")):
        raise UsageError(f"a figure tells at most ten classes apart, not {len(classes)}")
    if len(classes) <= len(COLOURS):
        fixed = {name: look.colour for name, look in drawing.looks_of(classes).items()}
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
    keys = [drawing.marker_handle(str(name), fixed[name], "o") for name in classes]
    parts_key = [drawing.marker_handle(str(part), INK, marker) for part, marker in markers.items()]
    drawing.key_above(figure, keys, *([parts_key] if style is not None else []))
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
    drawing.labelled(xlabel=xlabel, ylabel=ylabel)
    figure = Figure(figsize=(WIDTH, 0.75 * WIDTH))
    axes = figure.subplots()
    names = [None] if hue is None else drawing.ordered(frame, hue, order)
    points = []
    handles = []
    for name, look in drawing.looks_of(names).items():
        own = frame if name is None else frame.loc[frame[hue] == name]
        texts = list(dict.fromkeys(own[label]))
        places = [own.loc[own[label] == text] for text in texts]
        means = np.array([[place[x].mean(), place[y].mean()] for place in places])
        look = replace(look, dash="none") if len(texts) == 1 else look
        handles.append(drawing.line_handle(str(name), look))
        intervals = np.array(
            [[drawing.interval_of(place[x]), drawing.interval_of(place[y])] for place in places]
        )
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
    drawing.write_beside(axes, points)
    if hue is not None:
        drawing.legend_of(axes, handles)
    return figure
