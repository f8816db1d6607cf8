from io import BytesIO
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, PathPatch
from matplotlib.text import Text

from mtlbook.book import diagram
from mtlbook.book.diagram import Diagram
from mtlbook.errors import UsageError


def hard_sharing() -> Diagram:
    picture = Diagram()
    picture.box("x", "input x", at=(0, 0), kind="data")
    picture.box("trunk", "shared trunk", at=(1, 0), kind="shared")
    picture.arrow("x", "trunk")
    for task, (name, row) in enumerate({"A": 1, "B": 0, "C": -1}.items()):
        picture.box(name, f"head {name}", at=(2, row), task=task)
        picture.box(f"loss {name}", f"loss $L_{name}$", at=(3, row), kind="loss", task=task)
        picture.arrow("trunk", name)
        picture.arrow(name, f"loss {name}")
    return picture


def cross_stitch() -> Diagram:
    picture = Diagram()
    for task, (name, row) in enumerate({"A": 0.75, "B": -0.75}.items()):
        picture.box(f"layer {name}", f"layer\nof {name}", at=(0, row), task=task)
        picture.box(f"mix {name}", "", at=(1, row), kind="mix", task=task)
        picture.box(f"head {name}", f"head {name}", at=(2, row), task=task)
        picture.arrow(f"mix {name}", f"head {name}")
    for source in "AB":
        for target in "AB":
            picture.arrow(
                f"layer {source}",
                f"mix {target}",
                style="mixed",
                label=f"$\\alpha_{{{target}{source}}}$",
            )
    return picture


def gradient_reversal() -> Diagram:
    picture = Diagram()
    picture.box("x", "input x\n(source, target)", at=(0, 0), kind="data")
    picture.box("trunk", "features", at=(1, 0), kind="shared")
    picture.box("y", "label\nclassifier", at=(2, 0.7), task=0)
    picture.box("d", "domain\nclassifier", at=(2, -0.7), task=1)
    picture.box("L_y", "$L_y$", at=(3, 0.7), kind="loss", task=0)
    picture.box("L_d", "$L_d$", at=(3, -0.7), kind="loss", task=1)
    for start, end in [("x", "trunk"), ("trunk", "y"), ("trunk", "d"), ("y", "L_y"), ("d", "L_d")]:
        picture.arrow(start, end)
    picture.arrow("L_y", "trunk", style="gradient", label="$\\partial L_y$")
    picture.arrow("L_d", "trunk", style="reversed", label="$-\\lambda\\,\\partial L_d$")
    return picture


def soft_sharing() -> Diagram:
    picture = Diagram()
    for task, (name, row) in enumerate({"A": 0.7, "B": -0.7}.items()):
        for layer in range(3):
            picture.box(f"{name}{layer}", f"layer {layer} of {name}", at=(layer, row), task=task)
        picture.arrow(f"{name}0", f"{name}1")
        picture.arrow(f"{name}0", f"{name}2")  # around the layer between
    picture.arrow("A1", "B1", style="tied", label="$\\lambda\\,\\Vert W_A - W_B\\Vert^2$")
    picture.box("why", "kept close,\nnot equal", at=(3, 0), kind="note")
    return picture


PICTURES = [hard_sharing, cross_stitch, gradient_reversal, soft_sharing]


def parts(figure: Figure) -> tuple[dict[str, Patch], list[Patch], list[Text], Any]:
    """Boxes by name, arrows (their lines), texts, and the renderer that has drawn them."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    boxes = {str(patch.get_gid()): patch for patch in axes.patches if patch.get_gid()}
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    return boxes, list(arrows), list(axes.texts), canvas.get_renderer()


@pytest.mark.parametrize("make", PICTURES)
def test_a_text_lies_within_its_box_and_labels_lie_on_none(make):
    boxes, _, texts, renderer = parts(make().draw())
    inside = 0
    for text in texts:
        extent = text.get_window_extent(renderer)
        for box in (patch.get_window_extent(renderer) for patch in boxes.values()):
            if box.contains(*np.mean(extent.get_points(), axis=0)):
                inside += 1
                assert box.x0 < extent.x0 < extent.x1 < box.x1
                assert box.y0 < extent.y0 < extent.y1 < box.y1
            else:
                assert not box.padded(-2).overlaps(extent), text.get_text()
    assert inside == sum(box.kind not in ("mix", "note") for box in make()._boxes.values())


@pytest.mark.parametrize("make", PICTURES)
def test_boxes_do_not_overlap_and_all_lies_in_the_picture(make):
    figure = make().draw()
    boxes, arrows, texts, renderer = parts(figure)
    extents = [box.get_window_extent(renderer) for box in boxes.values()]
    assert not any(one.overlaps(other) for one, other in combinations(extents, 2))
    for artist in [*boxes.values(), *arrows, *texts]:
        extent = artist.get_window_extent(renderer)
        assert figure.bbox.x0 <= extent.x0 < extent.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= extent.y0 < extent.y1 <= figure.bbox.y1


@pytest.mark.parametrize("make", PICTURES)
def test_arrows_lead_from_border_to_border_and_through_no_box(make):
    picture = make()
    picture.draw()
    for arrow in picture._arrows:
        curve = picture._curve(arrow)
        points = np.asarray(curve(np.linspace(0, 1, 101)))
        for name, point in ((arrow.start, points[0]), (arrow.end, points[-1])):
            box = picture._boxes[name]
            apart = np.abs(point - box.centre) / (box.size / 2)
            assert apart.max() == pytest.approx(1)
        for box in picture._boxes.values():
            within = np.abs(points - box.centre) < box.size / 2 - 1e-6
            assert not within.all(axis=1).any()


@pytest.mark.parametrize("make", PICTURES)
def test_a_picture_has_the_same_bytes_twice(make):
    def png() -> bytes:
        buffer = BytesIO()
        make().draw().savefig(buffer, format="png")
        return buffer.getvalue()

    assert png() == png()


def test_columns_run_to_the_right_and_rows_upwards():
    picture = hard_sharing()
    picture.draw()
    centres = {name: box.centre for name, box in picture._boxes.items()}
    assert centres["x"][0] < centres["trunk"][0] < centres["A"][0] < centres["loss A"][0]
    assert centres["A"][1] > centres["B"][1] > centres["C"][1]
    assert centres["B"][1] == pytest.approx(centres["x"][1])
    assert len({picture._boxes[name].size[0] for name in "ABC"}) == 1  # alike within a column


def test_only_what_flows_back_or_keeps_close_has_a_key():
    def key(picture: Diagram) -> list[str]:
        return [text.get_text() for shown in picture.draw().legends for text in shown.get_texts()]

    assert key(hard_sharing()) == []
    assert key(gradient_reversal()) == ["gradient", "gradient with its sign reversed"]
    assert key(soft_sharing()) == ["parameters kept close"]


def test_styles_differ_without_colour():
    looks = [(look["linewidth"], str(look["linestyle"])) for look in diagram.LINES.values()]
    assert len(set(looks)) == len(looks)


def test_a_reversed_gradient_curves_below_what_lies_low_and_a_gradient_above():
    picture = gradient_reversal()
    picture.draw()
    up, down = (picture._curve(arrow) for arrow in picture._arrows[-2:])
    assert np.asarray(up(0.5))[1] > picture._boxes["L_y"].port((0, 1))[1]
    assert np.asarray(down(0.5))[1] < picture._boxes["L_d"].port((0, -1))[1]
    lines = [patch for patch in picture.draw().axes[0].patches if type(patch) is PathPatch]
    assert len(lines) == len(picture._arrows)


def test_bend_decides_the_side():
    heights = []
    for bend in (1, 0, -1):
        picture = Diagram()
        for place, name in enumerate("ab"):
            picture.box(name, name, at=(place, 0))
        picture.arrow("a", "b", bend=bend)
        picture.draw()
        heights.append(float(np.asarray(picture._curve(picture._arrows[0])(0.5))[1]))
    assert all(high > low for high, low in pairwise(heights))


def test_wide_texts_move_columns_apart_only_where_they_stand():
    def pitches(text: str) -> np.ndarray:
        picture = Diagram()
        for column in range(3):
            picture.box(str(column), text if column == 0 else "layer", at=(column, 0))
        picture.draw()
        return np.diff([box.centre[0] for box in picture._boxes.values()])

    narrow, wide = pitches("x"), pitches("a rather long text in a box")
    assert wide[0] > narrow[0] + 0.5
    assert wide[1] == pytest.approx(narrow[1])


def filled() -> Diagram:
    picture = Diagram()
    picture.box("a", "layer", at=(0, 0))
    return picture


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda picture: picture.box("a", "again", at=(1, 0)), "already a box 'a'"),
        (lambda picture: picture.box("b", "b", at=(1, 0), kind="square"), "not 'square'"),
        (lambda picture: picture.box("b", "b", at=(1, 0), kind="task"), "needs task=0"),
        (lambda picture: picture.box("b", "b", at=(1, 0), task=6), "from 0 to 5, not 6"),
        (lambda picture: picture.arrow("a", "z"), "no 'z' among 'a'"),
        (lambda picture: picture.arrow("a", "a"), "not 'a' with itself"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        wrong(filled())


@pytest.mark.parametrize(
    ("at", "message"),
    [((0, 0), "'a' and 'b' lie on each other"), ((0.05, 0), "'a' and 'b' are too near")],
)
def test_boxes_in_one_place_are_refused(at, message):
    picture = filled()
    picture.box("b", "layer", at=at)
    with pytest.raises(UsageError, match=message):
        picture.draw()


def test_an_unknown_style_is_refused():
    picture = filled()
    picture.box("b", "layer", at=(1, 0))
    with pytest.raises(UsageError, match="not 'thick'"):
        picture.arrow("a", "b", style="thick")


def test_an_arrow_that_must_cross_a_box_is_refused():
    picture = filled()
    for name, at in {"lid": (0, 1), "b": (2, -1), "base": (0, -1)}.items():
        picture.box(name, name, at=at)
    picture.arrow("b", "a", style="gradient")
    with pytest.raises(UsageError, match="from 'b' to 'a' would cross a box"):
        picture.draw()


def test_a_diagram_without_boxes_is_refused():
    with pytest.raises(UsageError, match="without boxes"):
        Diagram().draw()
