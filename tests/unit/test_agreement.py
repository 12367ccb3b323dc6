"""Questions of agreement: pairs whose words between subject and verb are the same, and whose answers differ."""

import math

import pytest

from course_lib.data.riverbank import Town
from course_lib.models.agreement import Choice, agreement_questions


@pytest.fixture(scope="module")
def found() -> dict[int, list[Choice]]:
    return agreement_questions(Town(), 150, seed=3, most=6)


def test_questions_come_in_pairs(found: dict[int, list[Choice]]) -> None:
    assert max(found) > 4
    assert sum(map(len, found.values())) > 30
    for distance, questions in found.items():
        assert len(questions) <= 12
        for one, other in zip(questions[::2], questions[1::2]):
            assert one.distance == other.distance == distance
            assert (one.right, one.wrong) == (other.wrong, other.right)
            assert one.right != one.wrong
            differ = [i for i, (a, b) in enumerate(zip(one.before, other.before)) if a != b]
            assert differ == [len(one.before) - distance]  # the subject alone
            assert len(one.before) == len(other.before)


def test_a_window_shorter_than_the_distance_is_right_in_half(
    found: dict[int, list[Choice]],
) -> None:
    for distance, questions in found.items():
        for window in range(distance):
            share = 0.0
            for each in questions:
                context = each.before[len(each.before) - window :]
                # any rule that sees the window and the two forms alone, here their order in a hash of it
                first = min(each.right, each.wrong, key=lambda form: hash((context, form)))
                share += first == each.right
            assert share == len(questions) / 2


def test_the_town_says_the_right_form(found: dict[int, list[Choice]]) -> None:
    town = Town()
    originals = [each for questions in found.values() for each in questions[::2]][:25]
    for each in originals:
        assert town.prefix_log_prob([*each.before, each.right]) > -math.inf
