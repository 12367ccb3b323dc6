"""The explorer of reward hacking: what it shows at each place of a walk."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from course_lib.widgets.hacking_view import Said, Stop, draw_stop, hacking_view


def stops(n: int) -> list[Stop]:
    parts = {"fact": 2.0, "manners": 0.3, "grammar": -1.0}
    long = "thank you , my friend , " * 8
    return [
        Stop(float(i), i * 0.5, 1.0 - i, [Said("who ?", "anna .", 0.1 * i, parts), Said("where ?", long, 1.0, parts)])
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "at", "question"), [(1, 0, 0), (5, 4, 1), (5, -1, 0)])
def test_a_place_shows_its_answer_and_its_rewards(n: int, at: int, question: int) -> None:
    figure = draw_stop(stops(n), at, question)
    left, right = figure.axes
    said = stops(n)[at].said[question]
    assert right.get_title().splitlines()[0] == said.prompt
    assert " ".join(right.get_title().splitlines()[1:]) == said.text.strip()
    assert "true reward of this reply: 1.30" in right.get_xlabel()
    assert f"learnt: {said.proxy:.2f}" in right.get_xlabel()
    assert len(right.patches) == 3
    assert {line.get_label() for line in left.lines} >= {
        "learnt reward (proxy)",
        "true reward (gold)",
    }
    plt.close(figure)


def test_the_view_redraws_when_something_moves() -> None:
    view = hacking_view({"one": stops(5), "two": stops(3)})
    run, place, question, picture = view.children[:4]
    assert isinstance(picture, ipywidgets.Image)
    assert question.max == 1
    seen = {bytes(picture.value)}
    place.value = 100
    seen.add(bytes(picture.value))
    question.value = 1
    seen.add(bytes(picture.value))
    run.value = "two"
    seen.add(bytes(picture.value))
    assert len(seen) == 4
    assert not plt.get_fignums()
