"""The map of the course: seven parts, twenty-eight lessons, and where the reader is."""

from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from course_lib.figures.style import PALETTE, show
from course_lib.runtime import CourseError


@dataclass(frozen=True)
class Part:
    """One part of the course: its name, the question it answers, its lessons' titles in order."""

    name: str
    question: str
    titles: tuple[str, ...]


# Lessons are numbered through, from 00. A soft hyphen (\u00ad) says where a long word may break.
PARTS = (
    Part("Start", "How does this work?", ("Start here",)),
    Part(
        "Words and gradients",
        "Can meaning be numbers?",
        ("Word vectors", "Back\u00adpropagation", "Windows and trees"),
    ),
    Part(
        "Recurrence",
        "What comes next?",
        ("Language models", "Recurrent networks", "The seq2seq bottleneck"),
    ),
    Part(
        "The Transformer",
        "What if every word sees every word?",
        (
            "Self-attention",
            "Multi-head attention",
            "Positional encoding",
            "Transformer block",
            "The Transformer",
        ),
    ),
    Part(
        "Pretraining",
        "What can be learnt from text alone?",
        ("Tokenization", "GPT", "BERT", "T5", "Scaling laws", "In-context learning"),
    ),
    Part(
        "Post-training",
        "How does it become helpful?",
        ("Instruction tuning", "RLHF", "DPO", "Reasoning and agents"),
    ),
    Part(
        "Beyond",
        "Where else, at what cost?",
        (
            "Efficient transformers",
            "See and hear",
            "Decisions and molecules",
            "Interpret\u00adability",
            "Bias, safety, society",
            "Many machines",
        ),
    ),
)

_SOFT_HYPHEN = "\u00ad"
_WIDTH, _HEIGHT, _STEP, _ROW, _LEFT = 1.18, 0.46, 1.25, 0.60, 2.3


def lesson_titles() -> tuple[str, ...]:
    """Return the title of every lesson; lesson NN's stands at position NN."""
    return tuple(title.replace(_SOFT_HYPHEN, "") for _, _, title in _lessons())


def course_map(here: int | None = None) -> Figure:
    """Draw the map.

    Args:
        here: the number of the lesson to mark; those before it are shown as behind, those after it as
            ahead. None marks no lesson.

    Returns:
        The figure.

    Raises:
        CourseError: there is no lesson of this number.

    """
    _require(here)
    width = _LEFT + 6 * _STEP
    figure, ax = plt.subplots(figsize=(width, len(PARTS) * _ROW + 0.1))
    ax.set(xlim=(0, width), ylim=(len(PARTS) * _ROW, -0.1))
    ax.set_axis_off()
    for row, part in enumerate(PARTS):
        middle = row * _ROW + _HEIGHT / 2
        ax.text(0, middle - 0.09, f"{row} · {part.name}", weight="bold", fontsize=10, va="center")
        ax.text(0, middle + 0.12, part.question, fontsize=8, color=PALETTE["grey"], va="center")
    for number, (row, column, title) in enumerate(_lessons()):
        fill, edge, ink = _colours(number, here)
        left, top = _LEFT + column * _STEP, row * _ROW
        ax.add_patch(
            FancyBboxPatch(
                (left + 0.05, top + 0.05),
                _WIDTH - 0.1,
                _HEIGHT - 0.1,
                boxstyle="round,pad=0.05,rounding_size=0.08",
                facecolor=fill,
                edgecolor=edge,
                linewidth=1.2,
                gid=f"lesson-{number:02d}",
            )
        )
        ax.text(
            left + 0.07,
            top + _HEIGHT / 2,
            f"{number:02d}",
            fontsize=10,
            weight="bold",
            color=ink,
            va="center",
        )
        ax.text(
            left + 0.35,
            top + _HEIGHT / 2,
            _two_lines(title),
            fontsize=7.5,
            weight="bold" if number == here else "normal",
            color=ink,
            va="center",
            linespacing=1.1,
        )
    return figure


def show_course_map(here: int) -> None:
    """Show the map with lesson ``here`` marked, and say in words where that is.

    Raises:
        CourseError: there is no lesson of this number.

    """
    figure = course_map(here)
    row = [row for row, _, _ in _lessons()][here]
    title, last = lesson_titles()[here], len(lesson_titles()) - 1
    show(
        figure,
        caption=f"The course, one part to a row. Dark: this lesson, {here:02d}. Tinted: behind you. "
        "White: ahead.",
        alt=f"Map of the course: lessons 00 to {last} in {len(PARTS)} rows, one for each part. "
        f"Lesson {here:02d}, {title}, in part {row}, {PARTS[row].name}, is marked.",
    )


def _lessons() -> Iterator[tuple[int, int, str]]:
    """Yield row, column and title, with its soft hyphens, of each lesson."""
    for row, part in enumerate(PARTS):
        for column, title in enumerate(part.titles):
            yield row, column, title


def _require(here: int | None) -> None:
    last = len(lesson_titles()) - 1
    if here is not None and not 0 <= here <= last:
        raise CourseError(f"There is no lesson {here} on the map: they go from 0 to {last}.")


def _colours(number: int, here: int | None) -> tuple[str, str, str]:
    """Return the fill, edge and ink of a lesson's box."""
    if number == here:
        return PALETTE["blue"], PALETTE["blue"], "white"
    if here is not None and number < here:
        return "#D9E8F3", "#8FB8D6", PALETTE["black"]
    return "white", "#BDBDBD", PALETTE["black"]


def _two_lines(title: str) -> str:
    """Break a title where its longer line becomes shortest; short ones stay on one line."""
    if len(title) <= 11:
        return title
    lines = [
        (title[: i + 1].rstrip().replace(_SOFT_HYPHEN, "-"), title[i + 1 :])
        for i, letter in enumerate(title)
        if letter in " -" + _SOFT_HYPHEN
    ]
    return "\n".join(min(lines, key=lambda pair: max(map(len, pair)), default=(title,)))
