from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtlbook.book import figures
from mtlbook.errors import UsageError
from mtlbook.statistics import interval

METHODS = ["one network a task", "hard sharing", "soft sharing"]
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


@pytest.mark.parametrize("draw", [learning_curves, sweep, predictions, trade_off])
def test_a_legend_names_every_series_in_the_order_asked_for(draw):
    order = METHODS[::-1]
    assert [name for name in legend(draw(order=order)) if name in METHODS] == order


@pytest.mark.parametrize("draw", [learning_curves, sweep, predictions, trade_off])
def test_an_order_that_forgets_a_series_is_refused(draw):
    with pytest.raises(UsageError, match="order must hold exactly"):
        draw(order=METHODS[:2])


def test_series_of_a_sweep_differ_in_colour_marker_and_line_in_the_order_asked_for():
    shown = legend(sweep(order=METHODS[::-1]))
    handles = [shown[name] for name in METHODS[::-1]]
    assert [handle.get_marker() for handle in handles] == list(figures.MARKERS[: len(METHODS)])
    assert len({to_hex(handle.get_color()) for handle in handles}) == len(METHODS)
    assert len({str(handle._dash_pattern) for handle in handles}) == len(METHODS)


def test_series_of_a_trade_off_differ_in_colour_and_marker():
    lines = [container.lines[0] for container in axes_of(trade_off()).containers]
    assert len({to_hex(line.get_color()) for line in lines}) == len(METHODS)
    assert len({line.get_marker() for line in lines}) == len(METHODS)


def test_there_are_as_many_line_styles_as_markers_and_all_differ():
    assert len(set(figures.MARKERS)) == len(set(figures.DASHES)) == len(figures.MARKERS)


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


def test_a_sweep_draws_its_references_and_names_them():
    figure = sweep(references={"separate networks": 2.0, "hard sharing at λ = ∞": 1.0})
    handles = legend(figure)
    assert (
        handles["separate networks"].get_linestyle()
        != handles["hard sharing at λ = ∞"].get_linestyle()
    )
    heights = [line.get_ydata()[0] for line in axes_of(figure).lines if len(line.get_ydata()) == 2]
    assert heights == [2.0, 1.0]


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


def test_a_signed_matrix_is_centred_at_0_and_an_unsigned_one_starts_there():
    signed = matrix().axes[0].collections[0]
    assert signed.get_clim() == (-2.0, 2.0)
    unsigned = figures.matrix(np.array([[1.0, 0.5]]), ["a"], ["b", "c"], label="weight")
    assert unsigned.axes[0].collections[0].get_clim() == (0.0, 1.0)


def test_a_matrix_holds_its_numbers_without_a_negative_0():
    texts = [text.get_text() for text in matrix().axes[0].texts]
    assert texts == ["1.00", "−0.50", "0.00", "2.00"]


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
    first = runs().query("method == 'one network a task' and strength == 0.1")
    assert axes.containers[0].lines[0].get_xdata()[2] == pytest.approx(first["error"].mean())


def test_the_font_is_one_that_matplotlib_brings():
    from matplotlib.font_manager import findfont

    assert "mpl-data" in findfont("DejaVu Sans")


def pictures() -> Figure:
    colours = np.full((3, 3, 3), 2.0)  # brighter than white
    return figures.pictures(
        [[np.eye(3), colours], [4 * np.eye(3), 0 * colours]], ["values", "colours"]
    )


def test_pictures_of_one_kind_have_one_scale_and_a_title():
    values, colours, below, black = pictures().axes
    assert [values.get_title(), colours.get_title(), below.get_title()] == ["values", "colours", ""]
    assert values.images[0].get_clim() == below.images[0].get_clim() == (0, 4)
    assert np.asarray(colours.images[0].get_array()).max() == 1
    assert np.asarray(black.images[0].get_array()).max() == 0


def test_pictures_have_the_same_bytes_twice():
    assert png(pictures()) == png(pictures())


def test_rows_of_pictures_that_miss_one_are_refused():
    with pytest.raises(UsageError, match="one for each of the columns"):
        figures.pictures([[np.eye(3)]], ["values", "colours"])
