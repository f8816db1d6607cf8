from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from mtlbook.book import drawing, figures
from mtlbook.errors import UsageError
from mtlbook.statistics import interval

METHODS = ["single-task", "hard sharing", "soft sharing"]
STRENGTHS = [0.0, 0.01, 0.1, 1.0]


@pytest.fixture(autouse=True)
def _theme():
    figures.theme()


def runs() -> pd.DataFrame:
    """A row per method × strength × seed."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {"strength": strength, "error": 1 + rank + random.normal(), "method": method, "seed": seed}
        for rank, method in enumerate(METHODS)
        for strength in STRENGTHS
        for seed in range(6)
    )


def measured() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": ["digits", "diabetes"],
            "estimate": [8.0, 1.0],
            "low": [5.0, -2.0],
            "high": [11, 4],
        }
    )


def effects(**changes: Any) -> Figure:
    chosen: dict[str, Any] = {"label": "task", "xlabel": "change (%)", "smallest": 3.0}
    return figures.effects(measured(), **chosen | changes)


def learning_curves(**changes: Any) -> Figure:
    labels: dict[str, Any] = {"xlabel": "step", "ylabel": "loss (nats)"}
    return figures.learning_curves(
        runs(), x="strength", y="error", hue="method", **labels | changes
    )


def sweep(**changes: Any) -> Figure:
    chosen: dict[str, Any] = {"hue": "method", "xlabel": "strength λ", "ylabel": "error (nMSE)"}
    return figures.sweep(runs(), x="strength", y="error", **chosen | changes)


def matrix(**changes: Any) -> Figure:
    names = ["a", "b"]
    chosen: dict[str, Any] = {"label": "covariance"}
    values = np.array([[1.0, -0.5], [-0.001, 2.0]])
    return figures.matrix(values, names, names, **chosen | changes)


def predictions(**changes: Any) -> Figure:
    inputs = np.linspace(0, 1, 4)
    curves = pd.DataFrame(
        {"x": x, "y": x + 0.1 * seed, "task": task, "method": method, "seed": seed}
        for task in "abcd"
        for method in METHODS
        for seed in range(3)
        for x in inputs
    )
    points = pd.DataFrame({"x": [0.2, 0.5], "y": [0.3, 0.4], "task": ["a", "d"]})
    labels: dict[str, Any] = {"xlabel": "input", "ylabel": "target"}
    return figures.predictions(
        points, curves, x="x", y="y", panel="task", hue="method", **labels | changes
    )


def trade_off(**changes: Any) -> Figure:
    frame = runs().assign(accuracy=lambda rows: 1 / (1 + rows["error"] ** 2))
    labels: dict[str, Any] = {"xlabel": "error (nMSE)", "ylabel": "accuracy (%)"}
    return figures.trade_off(
        frame, x="error", y="accuracy", label="strength", hue="method", **labels | changes
    )


KINDS = [effects, learning_curves, sweep, matrix, predictions, trade_off]


def axes_of(figure: Figure) -> Any:
    """The only axes of a figure; matplotlib's types say too little of what they hold."""
    (axes,) = figure.axes
    return axes


def png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@pytest.mark.parametrize("draw", KINDS)
def test_a_figure_has_the_same_bytes_twice(draw):
    assert png(draw()) == png(draw())


@pytest.mark.parametrize(
    ("draw", "label"),
    [(effects, "xlabel"), (matrix, "label")]
    + [
        (draw, label)
        for draw in (learning_curves, sweep, predictions, trade_off)
        for label in ("xlabel", "ylabel")
    ],
)
def test_a_figure_without_a_label_is_refused(draw, label):
    with pytest.raises(UsageError, match=f"needs {label}"):
        draw(**{label: " "})


@pytest.mark.parametrize("draw", [effects, learning_curves, sweep, trade_off])
def test_axes_are_labelled_as_asked(draw):
    axes = axes_of(draw(xlabel="along (m)"))
    assert axes.get_xlabel() == "along (m)"


def legend(figure: Figure) -> dict[str, Any]:
    shown = figure.axes[0].get_legend() or figure.legends[0]
    return {
        text.get_text(): handle
        for text, handle in zip(shown.get_texts(), shown.legend_handles, strict=True)
    }


def names(figure: Figure) -> list[str]:
    """What the series of a figure are called, in its legend or, from below, at their ends."""
    directly = [text.get_text().replace("\n", " ") for text in figure.axes[0].texts]
    has_legend = figure.axes[0].get_legend() or figure.legends
    return list(legend(figure)) if has_legend else directly


@pytest.mark.parametrize("draw", [predictions, trade_off])
def test_a_legend_names_every_series_in_the_order_asked_for(draw):
    order = METHODS[::-1]
    assert [name for name in legend(draw(order=order)) if name in METHODS] == order


@pytest.mark.parametrize("draw", [learning_curves, sweep])
def test_few_lines_are_named_at_their_ends_and_many_in_a_legend(draw):
    figure = draw()
    assert names(figure) == METHODS  # from below: the error rises along METHODS
    assert figure.axes[0].get_legend() is None
    many = pd.concat([runs().assign(method=runs()["method"] + part) for part in ("", ", wide")])
    kind = getattr(figures, draw.__name__)
    order = list(dict.fromkeys(many["method"]))[::-1]
    labels = {"xlabel": "λ", "ylabel": "error"}
    figure = kind(many, x="strength", y="error", hue="method", order=order, **labels)
    assert list(legend(figure)) == order


def test_a_line_that_leaves_the_axes_is_named_where_it_leaves_them():
    figure = sweep(ylim=(0, 2.5))  # soft sharing ends above
    axes = axes_of(figure)
    assert axes.get_ylim() == (0, 2.5)
    assert names(figure) == METHODS
    figure.draw_without_rendering()
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.bbox.y0 - 1 < (box.y0 + box.y1) / 2 < axes.bbox.y1 + 20


def test_lines_that_end_in_one_place_are_named_in_a_legend():
    together = runs().assign(error=runs()["error"] - runs()["method"].map(METHODS.index))
    figure = figures.sweep(
        together, x="strength", y="error", hue="method", xlabel="λ", ylabel="error",
        references={"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0},
    )  # fmt: skip
    assert set(legend(figure)) - {" "} == {*METHODS, "a", "b", "c", "d"}


def inside(outer: Any, inner: Any) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 <= inner.y1


@pytest.mark.parametrize("count", [2, 5, 8])
def test_a_legend_lies_on_nothing_and_hangs_over_no_side(count):
    frame = pd.DataFrame(
        {"x": x, "y": float(number * spread + x), "m": f"method number {number}"}
        for spread in (1,)
        for number in range(count)
        for x in range(4)
    )
    figure = figures.sweep(
        frame, x="x", y="y", hue="m", style="m", xlabel="x", ylabel="y"
    )  # a style: nothing is labelled directly
    axes = axes_of(figure)
    figure.draw_without_rendering()
    box = axes.get_legend().get_window_extent()
    assert box.x0 >= axes.bbox.x0 - 5
    assert box.x1 <= axes.bbox.x1 + 5
    above = box.y0 >= axes.bbox.y1 - 1
    points = np.concatenate(
        [
            axes.transData.transform(line.get_xydata())
            for line in axes.lines
            if len(line.get_xdata())
        ]
    )
    assert above or not box.count_contains(points)


@pytest.mark.parametrize("draw", [learning_curves, sweep, predictions, trade_off])
def test_an_order_that_forgets_a_series_is_refused(draw):
    with pytest.raises(UsageError, match="order must hold exactly"):
        draw(order=METHODS[:2])


def lines_of(figure: Figure) -> list[Any]:
    """The lines of means with markers, in the order in which they were drawn."""
    return [container.lines[0] for container in axes_of(figure).containers]


def test_methods_look_the_same_in_every_figure_and_differ_in_colour_and_marker():
    shown = dict(zip(METHODS, lines_of(sweep()), strict=True))
    turned = dict(zip(METHODS[::-1], lines_of(sweep(order=METHODS[::-1])), strict=True))
    curves = dict(zip(METHODS, axes_of(learning_curves()).lines, strict=True))
    for name in METHODS:
        colour = to_hex(shown[name].get_color())
        assert colour == to_hex(turned[name].get_color()) == to_hex(curves[name].get_color())
        assert shown[name].get_marker() == turned[name].get_marker()
    assert to_hex(shown["hard sharing"].get_color()) == figures.FIXED["hard sharing"][0].lower()
    assert to_hex(shown["soft sharing"].get_color()) == figures.COLOURS[0].lower()
    assert len({line.get_marker() for line in shown.values()}) == len(METHODS)
    assert len({str(line._dash_pattern) for line in curves.values()}) > 1


def test_the_oracle_is_black_and_dashed_as_a_series_and_as_a_reference():
    (line,) = lines_of(
        figures.sweep(
            runs().query("method == 'soft sharing'").assign(method="oracle"),
            x="strength", y="error", hue="method", xlabel="λ", ylabel="error",
        )
    )  # fmt: skip
    figure = sweep(references={"oracle": 0.5})
    reference = next(one for one in axes_of(figure).lines if one.get_label() == "oracle")
    for one in (line, reference):
        assert (to_hex(one.get_color()), one.get_linestyle()) == ("#000000", "--")


def test_a_condition_decides_line_and_marker_and_the_method_the_colour():
    both = pd.concat([runs().assign(tasks=name) for name in ("related", "unrelated")])
    figure = figures.sweep(
        both, x="strength", y="error", hue="method", style="tasks", xlabel="λ", ylabel="error"
    )
    looks = [
        (to_hex(line.get_color()), line.get_marker(), str(line._dash_pattern))
        for line in lines_of(figure)
    ]
    assert len({colour for colour, *_ in looks}) == 3
    assert [look[1:] for look in looks[::2]] == [looks[0][1:]] * 3
    assert [look[1:] for look in looks[1::2]] == [looks[1][1:]] * 3
    assert looks[0][1] != looks[1][1]
    assert looks[0][2] != looks[1][2]
    assert set(legend(figure)) - {" "} == {*METHODS, "related", "unrelated"}


def test_numbers_run_from_light_to_dark_and_are_called_by_their_column():
    frame = runs().assign(examples=[10 ** METHODS.index(name) for name in runs()["method"]])
    figure = figures.sweep(
        frame, x="strength", y="error", hue="examples", xlabel="λ", ylabel="error"
    )
    lightness = [sum(to_rgb(line.get_color())) for line in lines_of(figure)]
    assert lightness == sorted(lightness, reverse=True)
    assert names(figure) == ["examples = 1", "examples = 10", "examples = 100"]


def test_points_stand_at_their_settings_and_the_axis_carries_them():
    frame = runs().assign(
        strength=[{0: 8, 0.01: 32, 0.1: 128, 1: 512}[value] for value in runs()["strength"]]
    )
    for log_x in (False, True):
        figure = figures.sweep(
            frame, x="strength", y="error", hue="method", xlabel="n", ylabel="e", log_x=log_x
        )
        axes = axes_of(figure)
        for line in lines_of(figure):
            assert list(line.get_xdata()) == [8, 32, 128, 512]
            assert line.get_transform() == axes.transData
        assert len(axes.xaxis.get_minorticklocs()) == 0
    assert [text.get_text() for text in axes.get_xticklabels()] == ["8", "32", "128", "512"]


def test_ticks_that_would_touch_lose_their_numbers():
    frame = pd.DataFrame({"x": [1000.0, 1001, 3000, 9000], "y": [1.0, 2, 3, 4]})
    figure = figures.sweep(frame, x="x", y="y", xlabel="x", ylabel="y", log_x=True)
    shown = [text.get_text() for text in axes_of(figure).get_xticklabels()]
    assert shown == ["1000", "", "3000", "9000"]


def test_text_settings_stand_in_the_order_in_which_they_come():
    frame = pd.DataFrame({"x": ["wide", "narrow", "deep"], "y": [1.0, 2, 3]})
    axes = axes_of(figures.sweep(frame, x="x", y="y", xlabel="x", ylabel="y"))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["wide", "narrow", "deep"]


def test_a_fit_is_a_line_without_markers_or_intervals_in_the_colour_of_its_method():
    figure = sweep(fits={"hard sharing: 2 + λ": lambda x: 2 + x, "3": lambda x: 3 + 0 * x})
    own, other = (line for line in axes_of(figure).lines if len(line.get_xdata()) == 200)
    np.testing.assert_allclose(own.get_ydata(), 2 + np.asarray(own.get_xdata()))
    assert to_hex(own.get_color()) == figures.FIXED["hard sharing"][0].lower()
    assert to_hex(other.get_color()) not in {to_hex(one.get_color()) for one in lines_of(figure)}
    assert own.get_marker() in ("", "None")
    assert len(axes_of(figure).containers) == len(METHODS)  # no interval more


def test_a_reference_with_a_value_per_seed_has_its_interval():
    seeds = np.array([1.0, 2.0, 3.0, 4.5])
    axes = axes_of(sweep(references={"single-task": seeds}))
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(interval(seeds))


def test_differences_too_small_to_matter_are_shaded():
    figure = sweep(references={"single-task": 0.0}, smallest=0.5)
    (band,) = axes_of(figure).patches
    assert (band.get_y(), band.get_height()) == (-0.5, 1.0)
    assert "too small to matter" in legend(figure)


def test_a_logarithmic_metric_has_plain_numbers():
    axes = axes_of(sweep(log_y=True))
    texts = [text.get_text() for text in axes.get_yticklabels()]
    assert len(texts) >= 4
    assert all(float(text) > 0 for text in texts)


def test_series_of_a_trade_off_differ_in_colour_and_marker():
    lines = [container.lines[0] for container in axes_of(trade_off()).containers]
    assert len({to_hex(line.get_color()) for line in lines}) == len(METHODS)
    assert len({line.get_marker() for line in lines}) == len(METHODS)


def test_there_are_as_many_line_styles_as_markers_and_all_differ():
    assert len(set(drawing.MARKERS)) == len(set(drawing.DASHES)) == len(drawing.COLOURS)


def test_more_series_than_can_be_told_apart_are_refused():
    frame = runs().assign(method=lambda rows: rows.index % 9)
    with pytest.raises(UsageError, match="at most 8 series"):
        figures.sweep(frame, x="strength", y="error", hue="method", xlabel="λ", ylabel="error")


def test_a_sweep_draws_means_and_the_intervals_of_the_tables():
    frame = runs().query("method == 'hard sharing'")
    figure = figures.sweep(frame, x="strength", y="error", xlabel="λ", ylabel="error")
    axes = axes_of(figure)
    ((_, _, (bars,)),) = axes.containers
    groups = [own["error"].to_numpy() for _, own in frame.groupby("strength")]
    drawn = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(drawn, [interval(group) for group in groups])
    means = next(one for one in axes.lines if len(one.get_xdata()) == len(STRENGTHS))
    np.testing.assert_allclose(means.get_ydata(), [group.mean() for group in groups])
    assert axes.get_legend() is None


def test_a_sweep_draws_its_references_and_names_them_at_their_ends():
    figure = sweep(references={"separate networks": -2.0, "hard sharing at λ = ∞": -4.0})
    first, second = (line for line in axes_of(figure).lines if len(line.get_ydata()) == 2)
    assert (first.get_ydata()[0], second.get_ydata()[0]) == (-2.0, -4.0)
    assert first.get_linestyle() != second.get_linestyle()
    assert names(figure)[:2] == ["hard sharing at λ = ∞", "separate networks"]


def test_a_logarithmic_sweep_keeps_the_place_of_0():
    axes = axes_of(sweep(log_x=True))
    assert axes.get_xscale() == "symlog"
    left, right = axes.get_xlim()
    assert -min(STRENGTHS[1:]) < left < 0  # no room for negative settings
    assert right > 1
    places = axes.transData.transform([[value, 1.0] for value in STRENGTHS])[:, 0]
    assert (np.diff(places) > 10).all()


def test_a_logarithmic_sweep_without_0_is_plainly_logarithmic():
    frame = runs().query("strength > 0")
    figure = figures.sweep(frame, x="strength", y="error", xlabel="λ", ylabel="e", log_x=True)
    assert figure.axes[0].get_xscale() == "log"


def test_effects_are_hollow_where_the_interval_holds_0():
    axes = axes_of(effects())
    clear, unclear = (line for line in axes.lines if line.get_marker() == "o")
    assert to_hex(unclear.get_markerfacecolor()) == "#ffffff"
    assert to_hex(clear.get_markerfacecolor()) == to_hex(clear.get_color())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["digits", "diabetes"]
    assert axes.yaxis_inverted()


@pytest.mark.parametrize(
    ("low", "high"), [(0.1 + 0.2, 0.1 + 0.2), (0.4, 0.9), (-0.9, 0.2), (0.1, 0.8)]
)
def test_an_interval_is_drawn_between_its_ends_wherever_the_estimate_lies(low: float, high: float):
    frame = pd.DataFrame({"task": ["a"], "estimate": [0.3], "low": [low], "high": [high]})
    axes = axes_of(figures.effects(frame, label="task", xlabel="change (%)"))
    _, _, (bar,) = axes.containers[0]
    assert [x for x, _ in bar.get_segments()[0]] == pytest.approx([low, high])
    (point,) = (line for line in axes.lines if line.get_marker() == "o")
    assert point.get_xdata() == [0.3]


def test_effects_shade_what_is_too_small_to_matter():
    assert "too small to matter" in legend(effects())
    assert effects(smallest=None).axes[0].get_legend() is None


def test_effects_under_headings_are_written_out_with_their_interval():
    frame = measured().assign(of=["A", "B"], method=["hard sharing", "cross-stitch"])
    figure = figures.effects(
        frame, label="task", group="of", hue="method", digits=1, xlabel="change (%)"
    )
    axes = axes_of(figure)
    ticks = axes.get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["A", "digits", "B", "diabetes"]
    assert [tick.get_fontweight() for tick in ticks] == ["bold", "normal", "bold", "normal"]
    written = [text.get_text() for text in axes.texts]
    assert written == ["+8.0 [+5.0, +11.0]", "+1.0 [−2.0, +4.0]"]
    assert list(legend(figure)) == ["hard sharing", "cross-stitch"]


def verdicts(**changes: Any) -> Figure:
    frame = pd.DataFrame(
        {
            "section": ["3.1 Hard sharing"] * 3 + ["4.1 Data augmentation"],
            "label": ["lowers the error", "lowers the error", "lowers the error", "helps"],
            "role": [*figures.ROLES, "real data"],
            "estimate": [10.0, 2.0, 0.5, -90.0],
            "low": [6.0, -1.0, -2.0, -99.0],
            "high": [14.0, 5.0, 3.0, -80.0],
            "smallest": [5.0, 5.0, 5.0, 1.0],
        }
    )
    return figures.forest(frame.replace(changes))


def test_verdicts_are_in_units_of_the_smallest_effect_and_roles_differ_without_colour():
    axes = axes_of(verdicts())
    points = [line for line in axes.lines if line.get_marker() not in ("None", "|", "")]
    assert [line.get_xdata()[0] for line in points] == [2.0, 0.4, 0.1, -8.0]
    assert [line.get_marker() for line in points] == ["o", "D", "s", "<"]  # beyond the border
    heights = [line.get_ydata()[0] for line in points]
    assert heights == sorted(heights)
    assert list(legend(verdicts())) == [name for name, *_ in figures.ROLES.values()]
    filled = [to_hex(line.get_markerfacecolor()) != "#ffffff" for line in points]
    assert filled == [True, False, False, True]


def test_a_role_that_no_claim_has_is_refused():
    with pytest.raises(UsageError, match="not replication"):
        verdicts(**{"real data": "replication"})


def test_verdicts_have_the_same_bytes_twice():
    assert png(verdicts()) == png(verdicts())


def test_a_signed_matrix_is_centred_at_0_and_an_unsigned_one_starts_there():
    signed = matrix().axes[0].collections[0]
    assert signed.get_clim() == (-2.0, 2.0)
    unsigned = figures.matrix(np.array([[1.0, 0.5]]), ["a"], ["b", "c"], label="weight")
    assert unsigned.axes[0].collections[0].get_clim() == (0.0, 1.0)


def test_a_matrix_holds_its_numbers_without_a_negative_0():
    texts = [text.get_text() for text in matrix().axes[0].texts]
    assert texts == ["1.00", "−0.50", "0.00", "2.00"]


def test_matrices_side_by_side_share_their_colours_and_one_bar():
    made = {"first": np.eye(2), "second": 3 * np.eye(2)}
    figure = figures.matrix(made, ["a", "b"], ["a", "b"], label="α")
    one, other, bar = figure.axes
    assert [one.get_title(), other.get_title()] == ["first", "second"]
    assert one.collections[0].get_clim() == other.collections[0].get_clim() == (0.0, 3.0)
    assert bar.get_ylabel() == "α"


def test_a_large_matrix_has_neither_numbers_nor_names():
    figure = figures.matrix(np.full((64, 8), 0.25), label="share", digits=None, root=True)
    axes = figure.axes[0]
    assert not axes.texts
    assert not axes.get_xticklabels()
    assert np.asarray(axes.collections[0].norm(np.array(0.25 / 4))) == pytest.approx(0.5)


def test_matrices_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="one shape"):
        figures.matrix({"a": np.eye(2), "b": np.eye(3)}, label="α")
    with pytest.raises(UsageError, match="not negative"):
        figures.matrix(-np.eye(2), label="α", root=True)


def cloud(classes: int = 2) -> pd.DataFrame:
    return pd.DataFrame(
        {"x": float(k), "y": 0.5 * k, "class": f"class {k % classes}", "domain": domain, "of": of}
        for k in range(24)
        for domain in ("source", "target")
        for of in ("before", "after")
    )


def scatter(frame: pd.DataFrame, **changes: Any) -> Figure:
    look: dict[str, Any] = {"hue": "class", "style": "domain", "panel": "of", "equal": True}
    look |= {"xlabel": "first component", "ylabel": "second component"}
    return figures.scatter(frame, x="x", y="y", **look | changes)


@pytest.mark.parametrize("classes", [2, 10])
def test_points_have_a_key_for_classes_and_one_for_markers(classes):
    figure = scatter(cloud(classes))
    every = [f"class {k}" for k in range(classes)]
    shown = [name for name in legend(figure) if name != " "]
    assert sorted(shown) == sorted([*every, "source", "target"])
    assert len({to_hex(legend(figure)[name].get_color()) for name in every}) == classes
    assert [axes.get_title() for axes in figure.axes] == ["before", "after"]
    assert png(scatter(cloud(classes))) == png(figure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"hue": "x"}, "at most ten classes"), ({"style": "x"}, "at most 4 markers")],
)
def test_more_classes_or_markers_than_can_be_told_apart_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        scatter(cloud(), **changes)


def test_a_long_history_is_thinned_and_keeps_its_ends():
    frame = pd.DataFrame(
        {"step": step, "loss": 1 / (1 + step), "method": "a", "seed": seed}
        for step in range(1000)
        for seed in range(2)
    )
    figure = figures.learning_curves(
        frame, x="step", y="loss", hue="method", xlabel="step", ylabel="loss", log_y=True
    )
    drawn: Any = axes_of(figure).lines[0].get_xdata()
    assert len(drawn) == figures.POINTS_OF_A_CURVE
    assert (drawn[0], drawn[-1]) == (0, 999)
    assert figure.axes[0].get_yscale() == "log"


def test_predictions_have_a_panel_a_task_and_one_legend():
    figure = predictions()
    visible = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in visible] == list("abcd")
    assert all(axes.get_legend() is None for axes in figure.axes)
    assert list(legend(figure)) == ["training examples", *METHODS]
    assert len(np.asarray(visible[0].collections[0].get_offsets())) == 1


def test_every_column_of_panels_has_its_tick_labels():
    figure = predictions()
    figure.draw_without_rendering()
    labelled = [
        any(label.get_visible() for label in axes.get_xticklabels())
        for axes in figure.axes
        if axes.axison
    ]
    # Four panels in rows of three: the second and third have an empty place below them.
    assert labelled == [False, True, True, True]


def test_a_trade_off_writes_the_weights_beside_the_points_at_the_means():
    figure = trade_off()
    axes = axes_of(figure)
    assert [text.get_text() for text in axes.texts] == [str(s) for s in STRENGTHS] * len(METHODS)
    first = runs().query("method == 'single-task' and strength == 0.1")
    assert axes.containers[0].lines[0].get_xdata()[2] == pytest.approx(first["error"].mean())


def test_the_font_is_one_that_matplotlib_brings():
    from matplotlib.font_manager import findfont

    assert "mpl-data" in findfont("DejaVu Sans")
