"""Which lessons a course folder holds, and where each one's files lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.runtime import CourseError

_NAME = re.compile(r"(\d\d)_([a-z0-9_]+)")


@dataclass(frozen=True)
class LessonFiles:
    """The files of one lesson.

    Attributes:
        root: the course folder, which holds solutions/, notebooks/ and course_lib/.
        name: number and slug, such as "07_self_attention".

    """

    root: Path
    name: str

    @property
    def number(self) -> int:
        """The lesson's number."""
        return int(self.name[:2])

    @property
    def source(self) -> Path:
        """The lesson's one source."""
        return self.root / "solutions" / f"{self.name}.py"

    @property
    def learner(self) -> Path:
        """The notebook that a learner opens."""
        return self.root / "notebooks" / f"{self.name}.ipynb"

    @property
    def solution(self) -> Path:
        """The executed solution."""
        return self.root / "solutions" / f"{self.name}.ipynb"

    @property
    def claims(self) -> Path:
        """The record of the lesson's claims."""
        return self.root / "solutions" / f"{self.name}.claims.json"

    @property
    def records(self) -> Path:
        """What the lesson's long computations gave."""
        return self.root / "solutions" / f"{self.name}.records.json"

    def show(self, path: Path) -> str:
        """Return ``path`` as it is called inside the course folder."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return str(path)


def find_lessons(root: Path) -> list[LessonFiles]:
    """Return the lessons whose sources are in ``root``/solutions, by number.

    Raises:
        CourseError: the folder is missing, a source is misnamed, or two lessons share a number.

    """
    folder = root / "solutions"
    if not folder.is_dir():
        raise CourseError(
            f"There are no lessons' sources in {folder}: run this command inside the course's repository."
        )
    found: dict[int, LessonFiles] = {}
    for path in sorted(folder.glob("*.py")):
        if not _NAME.fullmatch(path.stem):
            raise CourseError(
                f"solutions/{path.name} is not named like a lesson: call it NN_slug.py, "
                "with two digits and small letters, such as 07_self_attention.py."
            )
        lesson = LessonFiles(root, path.stem)
        if lesson.number in found:
            raise CourseError(
                f"solutions/{found[lesson.number].name}.py and solutions/{path.name} are both "
                f"lesson {lesson.number:02d}: renumber one."
            )
        found[lesson.number] = lesson
    return [found[number] for number in sorted(found)]


def select(root: Path, wanted: Sequence[str]) -> list[LessonFiles]:
    """Return the lessons that ``wanted`` names, or all of them where it is empty.

    Args:
        root: the course folder.
        wanted: numbers ("7", "07"), ranges ("00-07") or names ("07_self_attention").

    Raises:
        CourseError: no such lesson.

    """
    lessons = find_lessons(root)
    if not wanted:
        return lessons
    chosen: dict[int, LessonFiles] = {}
    for word in wanted:
        matches = [lesson for lesson in lessons if _matches(lesson, word)]
        if not matches:
            have = ", ".join(f"{lesson.number:02d}" for lesson in lessons) or "none"
            raise CourseError(f'There is no lesson "{word}": this course has {have}.')
        chosen.update((lesson.number, lesson) for lesson in matches)
    return [chosen[number] for number in sorted(chosen)]


def _matches(lesson: LessonFiles, word: str) -> bool:
    interval = re.fullmatch(r"(\d{1,2})-(\d{1,2})", word)
    if interval:
        return int(interval[1]) <= lesson.number <= int(interval[2])
    if word.isdigit():
        return lesson.number == int(word)
    return lesson.name == Path(word).stem
