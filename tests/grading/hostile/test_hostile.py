"""The whole collection in the real sandbox: nothing undeserved is gained, nothing deserved is lost."""

import pytest

from hostile.collection import FAMILIES, HANDED, PAIRS
from hostile.stage import Stage, grade_class, judge_handed

BY_NAME = {f"{family}: {case.name}": case for family, cases in FAMILIES.items() for case in cases}
BY_FILE = {f"{family}: {each.name}": each for family, cases in HANDED.items() for each in cases}


@pytest.fixture(scope="module")
def stage(needs_sandbox):
    with Stage(draws=1) as made:  # benchmarks/hostile.py draws twice
        yield made


@pytest.fixture(scope="module")
def graded(needs_sandbox, tmp_path_factory):
    """Return one class, in which every file of the collection was handed in."""
    return grade_class(list(BY_FILE.values()), tmp_path_factory.mktemp("class"))


def test_every_submission_has_a_name_of_its_own_and_a_reason():
    cases = [*BY_NAME.values(), *BY_FILE.values()]
    assert len(cases) == sum(map(len, (*FAMILIES.values(), *HANDED.values())))
    assert all(case.why for case in cases)
    assert len(cases) >= 80


@pytest.fixture(scope="module")
def results(stage, request):
    """Return what came of the cases that were chosen; they are marked two at a time."""
    chosen = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.originalname == "test_marks_are_the_fair_ones"
    ]
    return dict(zip(chosen, stage.judge_all([BY_NAME[name] for name in chosen])))


@pytest.mark.parametrize("name", BY_NAME)
def test_marks_are_the_fair_ones(results, name):
    found = results[name]
    assert not found.complaints, "\n".join([BY_NAME[name].why, *found.complaints])


def test_no_process_is_left_and_nothing_of_the_instructors_was_touched(stage, results):
    assert stage.disturbed() == []


@pytest.mark.parametrize("name", BY_FILE)
def test_what_is_handed_in_among_others_gets_its_fair_mark(graded, name):
    found = judge_handed(BY_FILE[name], graded)
    assert not found.complaints, "\n".join([BY_FILE[name].why, *found.complaints])


def test_no_file_of_the_class_was_touched_and_reports_hold_texts_alone(graded):
    assert graded.complaints == ()


@pytest.mark.parametrize("name", PAIRS)
def test_what_one_leaves_changes_nothing_for_the_next_and_the_neighbour(stage, name):
    found = stage.pair(PAIRS[name])
    assert not found.complaints, "\n".join(found.complaints)
