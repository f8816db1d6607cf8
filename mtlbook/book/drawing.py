"""What the figure kinds have in common: looks of methods, lines, legends, labels, ticks."""

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
from matplotlib.colors import to_rgb
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
LABELLED_DIRECTLY = 4  # lines at most; of more, a legend is read faster


@dataclass(frozen=True)
class Look:
    """Of a series: its colour, marker and line style."""

    colour: Any
    marker: str
    dash: Any


@dataclass(frozen=True)
class _Series:
    """A line of means with its intervals."""

    name: str  # of the method
    part: str  # the condition
    look: Look
    x: np.ndarray
    means: np.ndarray


@dataclass(frozen=True)
class _Named:
    """A line that is labelled at its right end."""

    text: str
    height: float  # of the end, in data
    colour: Any
    handle: Line2D | None = None


def labelled(**labels: str) -> None:
    """Refuse a figure without its labels."""
    for name, text in labels.items():
        if not text.strip():
            raise UsageError(f"a figure needs {name}: what it shows, with the unit")


def ordered(frame: pd.DataFrame, hue: str, order: Sequence[object] | None) -> list[Any]:
    """The series in the order asked for, else as they come."""
    present = list(dict.fromkeys(frame[hue]))
    if order is None:
        return present
    if set(order) != set(present):
        raise UsageError(
            f"order must hold exactly the values of {hue!r}: {', '.join(map(str, present))}"
        )
    return list(order)


def looks_of(names: Sequence[Any], *, lines: bool = False) -> dict[Any, Look]:
    """The look of each series: fixed by its name, else the next of the palette.

    Numbers are an order, not methods: they run from light to dark. `lines`: without markers, so
    that dashes differ.
    """
    if list(names) == [None]:
        return {None: Look(COLOURS[0], "" if lines else "o", "-")}
    free = [name for name in names if name not in FIXED]
    if len(free) > len(COLOURS):
        raise UsageError(f"a figure tells at most {len(COLOURS)} series apart, not {len(free)}")
    colours: Sequence[Any] = COLOURS
    if len(free) > 1 and all(isinstance(name, int | float | np.number) for name in free):
        colours = sns.color_palette("flare", len(free))
    looks = {name: Look(*FIXED[name]) for name in names if name in FIXED}
    dashes = [one for one in DASHES if one not in {look.dash for look in looks.values()}]
    looks |= {
        name: Look(colour, marker, dash)
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


def interval_of(values: Iterable[float]) -> tuple[float, float]:
    """The 95 % interval of the mean; of fewer than two values there is none."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return math.nan, math.nan
    # Of equal values the interval and the mean differ by rounding, and no bar may be negative.
    low, high = interval(array)
    return min(low, float(array.mean())), max(high, float(array.mean()))


def draw_lines(
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
    names = [None] if hue is None else ordered(frame, hue, order)
    parts = [None] if style is None else list(dict.fromkeys(frame[style]))
    if len(parts) > len(MARKERS):
        raise UsageError(f"a figure tells at most {len(MARKERS)} conditions apart")
    series = []
    for name, of_hue in looks_of(names, lines=errors == "band").items():
        for number, part in enumerate(parts):
            own = frame if name is None else frame.loc[frame[hue] == name]
            own = own if part is None else own.loc[own[style] == part]
            if own.empty:
                continue
            look = of_hue
            if len(parts) > 1:
                marker = ("o", *MARKERS)[number] if look.marker else ""
                look = Look(look.colour, marker, DASHES[number])
            groups = [(at, group.to_numpy(np.float64)) for at, group in own.groupby(x)[y]]
            at = np.array([setting for setting, _ in groups], dtype=np.float64)
            means = np.array([values.mean() for _, values in groups])
            low, high = np.array([interval_of(values) for _, values in groups]).T
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


def draw_references(axes: Axes, references: Mapping[str, Any]) -> list[_Named]:
    """Horizontal lines at numbers, or at means of seeds with their intervals."""
    named = []
    for (name, value), dash in zip(references.items(), cycle(["--", ":", "-."]), strict=False):
        values = np.atleast_1d(np.asarray(value, dtype=np.float64))
        height = float(values.mean())
        colour, _, dash = FIXED.get(name, (GREY, "", "-" if height == 0 else dash))
        if len(values) > 1:
            axes.axhspan(*interval_of(values), color=colour, alpha=0.12, zorder=0.5, linewidth=0)
        line = axes.axhline(
            height, color=colour, linestyle=dash, linewidth=1.3, zorder=1, label=name
        )
        named.append(_Named(name, height, colour, line))
    return named


def draw_fits(
    axes: Axes,
    fits: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    series: Sequence[_Series],
    settings: Float[np.ndarray, "settings"],
    log_x: bool,
) -> list[_Named]:
    """Thin lines of functions, over the settings that were measured."""
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


def name_lines(
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
            methods = [line_handle(name, look) for name, look in looks.items()]
        else:
            if len(looks) > 1:
                methods = [Patch(color=look.colour, label=name) for name, look in looks.items()]
            others = [*(line_handle(part, look) for part, look in of_part.items()), *others]
        if not _label_ends(axes, lines):
            others += [one.handle for one in lines if one.handle]
    legend_of(axes, *(group for group in (methods, others) if group))


def _label_ends(axes: Axes, lines: Sequence[_Named]) -> bool:
    """Write names to the right of the axes, at the lines' ends; False where too crowded."""
    if not lines:
        return True
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    point = figure.dpi / 72
    low, high = axes.get_ylim()  # a line that leaves the axes is named where it leaves them
    lines = [replace(line, height=min(max(line.height, low), high)) for line in lines]
    lines.sort(key=lambda line: line.height)
    texts = [textwrap.fill(line.text, 18) for line in lines]
    right = axes.get_xlim()[1]
    heights = axes.transData.transform([(right, line.height) for line in lines])[:, 1] / point
    room = np.array([12.5 * (text.count("\n") + 1) for text in texts])
    places = heights.copy()
    for _ in range(100):
        for one, other in pairwise(range(len(lines))):
            lack = (room[one] + room[other]) / 2 - (places[other] - places[one])
            if lack > 0:
                places[one] -= lack / 2
                places[other] += lack / 2
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


def legend_of(axes: Axes, *groups: Sequence[Artist]) -> None:
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
    key_above(axes, *groups)


def key_above(above: Axes | Figure, *groups: Sequence[Artist]) -> None:
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


def write_beside(axes: Axes, points: Sequence[tuple[str, Float[np.ndarray, "2"]]]) -> None:
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


def draw_effects(
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
    step = 0.15 if limit is None else 0.09  # inches between the marks of one row
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


def panels_of(names: Sequence[Any], height: float) -> tuple[Figure, dict[Any, Axes]]:
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


def line_handle(text: str, look: Look) -> Line2D:
    """A series in a legend."""
    return Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, label=text)


def marker_handle(text: str, colour: Any, marker: str) -> Line2D:
    """Points in a legend."""
    return Line2D([], [], color=colour, marker=marker, linestyle="none", label=text)


def logarithmic(axes: Axes, values: Float[np.ndarray, "settings"]) -> None:
    """A logarithmic axis, with a linear stretch around 0 where a setting is 0."""
    positive = values[values > 0]
    if len(positive) == len(values):
        axes.set_xscale("log")
        return
    smallest, largest = float(positive[0]), float(positive[-1])
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xlim(-0.4 * smallest, largest * 1.6)


def measured_ticks(axes: Axes, values: Float[np.ndarray, "settings"], log_x: bool) -> None:
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


def plain_ticks(axes: Axes) -> None:
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


def fixed_text(value: float, digits: int) -> str:
    """A number with so many digits, and no negative 0."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
