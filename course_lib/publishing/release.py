"""`course release`: makes the students' repository, without solutions and without instructor's tools."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from course_lib.publishing.build import drift
from course_lib.publishing.lessons import LessonFiles
from course_lib.runtime import CourseError

# The package without what only an instructor or a maintainer uses.
LEFT_OUT = ("publishing", "grading")
LEARNERS_COMMANDS = ("__init__", "common", "data", "doctor", "lab", "machine", "pretrain", "status")
COPIED = ("pyproject.toml", "constraints.txt", "environment.yml", "LICENSE", "LICENSE-TEXT")
# The Makefile ends here for students.
MAINTAINERS_PART = "# --- For maintainers"
_STUDENTS = Path(__file__).parent / "students"
_PER_LESSON = re.compile(r"lesson_(\d\d)\.py")


def release(lessons: Sequence[LessonFiles], target: Path) -> list[Path]:
    """Write the students' repository.

    Args:
        lessons: what it holds.
        target: the folder, which is new or empty, or holds only a .git folder.

    Returns:
        The files written, relative to ``target``.

    Raises:
        CourseError: the folder holds something, cannot be written, or lies in the course itself; or the
            notebooks have drifted from their sources.

    """
    root = lessons[0].root
    target = target.resolve()
    if target.is_relative_to(root.resolve()):
        raise CourseError(f"{target} lies inside the course itself: choose a folder outside of it.")
    if target.is_dir() and any(path.name != ".git" for path in target.iterdir()):
        raise CourseError(
            f"{target} is not empty: choose a new folder, so that nothing of yours is lost."
        )
    for lesson in lessons:
        behind = [each for each in drift(lesson) if each.startswith(lesson.show(lesson.learner))]
        if behind:
            raise CourseError(behind[0])
    try:
        return _write(lessons, root, target)
    except OSError as error:
        raise CourseError(
            f"{error.filename or target}: {error.strerror}; the release in {target} is not complete, "
            "so remove it and choose a folder that you may write."
        ) from error


def _write(lessons: Sequence[LessonFiles], root: Path, target: Path) -> list[Path]:
    numbers = {lesson.number for lesson in lessons}
    wanted = [(lesson.learner, Path("notebooks") / lesson.learner.name) for lesson in lessons]
    # Records stand beside the notebooks here, where `recorded` finds them: there is no solutions/.
    wanted += [
        (lesson.records, Path("notebooks") / lesson.records.name)
        for lesson in lessons
        if lesson.records.exists()
    ]
    wanted += [(root / name, Path(name)) for name in COPIED]
    wanted += [
        (_STUDENTS / "README.md", Path("README.md")),
        (_STUDENTS / "gitignore.txt", Path(".gitignore")),
    ]
    package = root / "course_lib"
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package)
        if path.is_file() and _belongs(inside, numbers):
            wanted.append((path, Path("course_lib") / inside))
    for source, place in wanted:
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / place)
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    (target / "Makefile").write_text(makefile.partition(MAINTAINERS_PART)[0], encoding="utf-8")
    return [*(place for _, place in wanted), Path("Makefile")]


def _belongs(inside: Path, numbers: set[int]) -> bool:
    if "__pycache__" in inside.parts or inside.parts[0] in LEFT_OUT:
        return False
    if inside.parts[0] == "cli" and inside.suffix == ".py":
        return inside.stem in LEARNERS_COMMANDS
    if inside.parts[0] == "exercises":
        number = _PER_LESSON.fullmatch(inside.name)
        return not number or int(number[1]) in numbers
    return True
