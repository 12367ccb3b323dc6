"""Lesson notebooks with answers filled in and executed, as students hand them in."""

import copy
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.notebooknode import NotebookNode

from course_lib.exercises.spec import find
from course_lib.publishing.build import compose_lesson
from course_lib.publishing.execution import KERNEL_ARGUMENTS, environment
from course_lib.publishing.lessons import LessonFiles


def solutions(lesson: LessonFiles) -> dict[str, str]:
    """Return the published source of each exercise's solution."""
    return {
        cell.metadata.exercise: cell.source
        for cell in compose_lesson(lesson).solution.cells
        if "exercise" in cell.metadata.get("tags", [])
    }


def filled_in(lesson: LessonFiles, answers: Mapping[str, str]) -> NotebookNode:
    """Return the learner's notebook with these exercises answered; the others keep their stubs."""
    notebook = compose_lesson(lesson).learner
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = answers.get(cell.metadata.exercise, cell.source)
    return notebook


def executed(lesson: LessonFiles, notebook: NotebookNode) -> NotebookNode:
    """Run a notebook at the smallest scale as a student does who goes on after an error; return it."""
    result = copy.deepcopy(notebook)
    client = NotebookClient(
        result,
        kernel_name="python3",
        timeout=None,
        allow_errors=True,
        extra_arguments=KERNEL_ARGUMENTS,
        resources={"metadata": {"path": str(lesson.root / "notebooks")}},
    )
    with environment(COURSE_SCALE="smoke", OMP_NUM_THREADS="1"):
        client.execute()
    return result


def card(notebook: NotebookNode, exercise: str) -> str:
    """Return what the saved check of an exercise says, or "" where it has no output."""
    cell = next(each for each in notebook.cells if each.id == f"check-{exercise}")
    return "\n".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def learnt_by_heart(exercise: str, seeds: tuple[int, ...] = (0, 1)) -> str:
    """Return an answer that knows what `check` asks and the right replies, and nothing else.

    Args:
        exercise: one whose probe calls a function of tensors and numbers by keyword and returns one tensor.
        seeds: those that `check` draws its cases from.

    """
    specification = find(exercise)
    table = {}
    for seed in seeds:
        for case in specification.draw(seed):
            key = tuple(
                tuple(value.tolist()) if hasattr(value, "tolist") else value
                for value in case.inputs.values()
            )
            (expected,) = specification.oracle(**case.inputs).values()
            table[key] = expected.tolist()
    names = ", ".join(case.inputs)
    return (
        f"KNOWN = {table!r}\n\n\n"
        f"def {exercise}({names}):\n"
        f"    asked = ({names},)\n"
        "    key = tuple(tuple(each.tolist()) if hasattr(each, 'tolist') else each for each in asked)\n"
        "    return torch.tensor(KNOWN[key])"
    )


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook file; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
