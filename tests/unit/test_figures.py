"""The course's figures: one look, helpers that return their axes, small pictures, texts for every reader."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from course_lib import figures
from course_lib.figures.course_map import PARTS, course_map, lesson_titles, show_course_map
from course_lib.figures.style import png
from course_lib.runtime import CourseError


@pytest.fixture(autouse=True)
def _clean():
    with mpl.rc_context():
        mpl.use("Agg")
        figures.use_course_style()
        yield
    plt.close("all")


def boxes(figure):
    return {
        int(patch.get_gid().removeprefix("lesson-")): patch
        for patch in figure.axes[0].patches
        if (patch.get_gid() or "").startswith("lesson-")
    }


def test_the_map_has_seven_parts_and_twenty_eight_lessons():
    assert len(PARTS) == 7
    titles = lesson_titles()
    assert len(titles) == len(set(titles)) == 28
    assert titles[0] == "Start here"
    assert titles[2] == "Backpropagation"
    assert titles[7] == "Self-attention"
    assert titles[27] == "Many machines"
    assert not any("\u00ad" in title or "\n" in title for title in titles)


def test_the_map_agrees_with_the_lessons_that_there_are(pytestconfig):
    from course_lib.publishing.lessons import find_lessons

    for lesson in find_lessons(pytestconfig.rootpath):
        heading = next(
            line
            for line in lesson.source.read_text(encoding="utf-8").splitlines()
            if line.startswith(f"# {lesson.number:02d} · ")
        )
        assert heading.partition(" · ")[2].lower() == lesson_titles()[lesson.number].lower()


@pytest.mark.parametrize("here", [0, 7, 27])
def test_the_map_marks_one_lesson_and_what_lies_behind(here):
    fills = {number: patch.get_facecolor() for number, patch in boxes(course_map(here)).items()}
    assert sorted(fills) == list(range(28))
    marked = mpl.colors.to_rgba(figures.PALETTE["blue"])
    assert [number for number, fill in fills.items() if fill == marked] == [here]
    assert len({fills[number] for number in range(here)}) <= 1
    assert all(fills[number] == (1, 1, 1, 1) for number in range(here + 1, 28))


def test_the_map_without_a_place_marks_nothing():
    assert {patch.get_facecolor() for patch in boxes(course_map()).values()} == {(1, 1, 1, 1)}


def test_the_titles_stay_inside_their_boxes():
    figure = course_map(7)
    figure.canvas.draw()
    drawn = {number: box.get_window_extent() for number, box in boxes(figure).items()}
    labels = [text for text in figure.axes[0].texts if text.get_position()[0] > 2.3]
    assert len(labels) == 2 * 28
    for label in labels:
        extent = label.get_window_extent()
        assert any(
            box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 <= box.y1
            for box in drawn.values()
        ), label.get_text()


@pytest.mark.parametrize("number", [-1, 28])
def test_no_such_lesson(number):
    with pytest.raises(CourseError, match=f"no lesson {number} on the map: they go from 0 to 27"):
        course_map(number)


def test_outside_a_notebook_the_map_is_told_in_words(capsys):
    show_course_map(3)
    said = capsys.readouterr().out
    assert "Lesson 03, Windows and trees, in part 1, Words and gradients, is marked" in said
    assert "one part to a row" in said


def test_a_shown_figure_carries_alt_text_and_caption(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a[0], k)))
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    figures.show(figure, caption="Rising, 1 < 2.", alt="A line that rises.")
    (picture, extra), (caption, _) = shown
    assert picture["image/png"].startswith(b"\x89PNG")
    assert extra["metadata"]["image/png"]["alt"] == "A line that rises."
    assert picture["text/plain"] == "[figure: A line that rises.]"
    assert "Rising, 1 &lt; 2." in caption["text/html"]
    assert "Picture: A line that rises." in caption["text/html"]
    assert not plt.fignum_exists(figure.number)


def test_every_helper_returns_its_axes_and_names_them():
    _, (one, two, three) = plt.subplots(1, 3)
    series = {"a": [1.0, 2.0], "b": [2.0, 1.0]}
    bands = {"a": ([0.5, 1.5], [1.5, 2.5])}
    assert (
        figures.lines(one, [1, 2], series, xlabel="x (s)", ylabel="y", log="xy", bands=bands) is one
    )
    assert (one.get_xlabel(), one.get_ylabel()) == ("x (s)", "y")
    assert [text.get_text() for text in one.get_legend().get_texts()] == ["a", "b"]
    matrix = np.array([[1.0, np.nan], [-2.0, 0.5]])
    drawn = figures.heatmap(
        two, matrix, rows=["r", "s"], columns=["c", "d"], diverging=True, numbers=".1f", bar="unit"
    )
    assert drawn is two
    assert two.images[0].get_clim() == (-2.0, 2.0)
    assert [text.get_text() for text in two.texts] == ["1.0", "-2.0", "0.5"]
    assert figures.attention_map(three, np.eye(2), ["a", "b"], ["a", "b"]) is three
    assert three.images[0].get_clim() == (0.0, 1.0)


def test_colours_differ_for_every_eye():
    """Neighbours in the cycle differ in lightness or, where they do not, have another marker."""
    style = mpl.rcParams["axes.prop_cycle"].by_key()
    assert style["color"] == figures.CYCLE
    assert len(set(style["marker"])) == len(set(figures.CYCLE)) == len(figures.CYCLE)


def test_pictures_are_small_and_keep_their_size():
    figure = course_map(12)
    content = png(figure)
    assert len(content) < 60_000
    width, height = Image.open(io.BytesIO(content)).size
    assert (width, height) == tuple(int(96 * side) for side in figure.get_size_inches())
    assert width < 1000


# --- two vectors -----------------------------------------------------------------------------


def functions():
    from course_lib.models import basics

    return {
        "dot": basics.dot_product,
        "cosine": basics.cosine_similarity,
        "project": basics.projection,
    }


def test_the_drawing_of_two_vectors_shows_what_the_functions_say():
    from course_lib.widgets.vectors import arrow, describe_vectors, draw_vectors

    a, b = arrow(120, 2), arrow(0, 1.5)
    figure = draw_vectors(a, b, **functions())
    assert figure.axes[0].get_title(loc="left") == "a·b = −1.50     cos = −0.50"
    shadow = next(
        line for line in figure.axes[0].lines if line.get_label() == "projection of a onto b"
    )
    np.testing.assert_allclose(shadow.get_xydata(), [[0, 0], [-1, 0]], atol=1e-12)
    assert describe_vectors(a, b, **functions()) == (
        "a has length 2.00, b has length 1.50; a·b = −1.50, cosine −0.50, "
        "the projection of a onto b reaches −1.00 along b."
    )


def test_the_view_of_two_vectors_follows_its_sliders():
    from course_lib.widgets.vectors import vectors_view

    picture, side = vectors_view(**functions()).children
    *sliders, words = side.children
    before = picture.value
    assert before.startswith('<svg role="img" aria-label="a has length 2.50')
    sliders[0].value = sliders[2].value + 90  # a right angle
    assert picture.value != before
    assert "<b>90°</b>" in words.value
    assert "a·b = 0.00" in picture.value
    sliders[0].value = sliders[2].value
    assert f"<b>{sliders[1].value * sliders[3].value:.2f}</b>" in words.value


# --- a demonstration of a check --------------------------------------------------------------


def test_a_demonstration_leaves_no_trace(monkeypatch, tmp_path, capsys):
    from course_lib.exercises import check
    from course_lib.exercises.demonstration import demonstration
    from course_lib.exercises.progress import read

    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setitem(globals(), "dot_product", lambda a, b: a * b)
    with demonstration():
        check("dot_product")
        assert read()["00/dot_product"]["status"] == "failed"
    assert "You multiplied place by place but did not add up" in capsys.readouterr().out
    assert read() == {}
    with pytest.raises(AssertionError, match="did not add up"):
        check("dot_product")
