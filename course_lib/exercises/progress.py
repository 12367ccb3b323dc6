"""The learner's own record of what is done: one small JSON file, `progress.json` in the course's home."""

import contextlib
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from course_lib.runtime import CourseError, course_home

_warned = False


def progress_file() -> Path:
    """Return where the learner's progress is kept.

    Raises:
        CourseError: the folder cannot be written.

    """
    return course_home() / "progress.json"


def read() -> dict[str, dict[str, Any]]:
    """Return what is recorded: ``{"07/attention": {"status": "passed", "attempts": 3, …}, …}``.

    A file that cannot be read counts as empty; a damaged one is set aside as progress.json.damaged.
    """
    try:
        path = progress_file()
        content = path.read_bytes()
    except (CourseError, OSError):
        return {}
    try:
        records = json.loads(content)
        if not isinstance(records, dict):
            raise ValueError("not a dictionary")
    except (ValueError, RecursionError):
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".json.damaged"))
        _warn(f"Your progress in {path} was damaged: it is set aside as {path.name}.damaged.")
        return {}
    return {key: value for key, value in records.items() if isinstance(value, dict)}


def count(entry: dict[str, Any], fact: str) -> int:
    """Return a count of an entry of `read`; 0 where there is none that makes sense."""
    number = entry.get(fact)
    return number if isinstance(number, int) and number > 0 else 0


def record(lesson: int, name: str, **facts: Any) -> dict[str, Any]:
    """Add ``facts`` to what is known of an exercise or prediction, and return all that is known.

    Where the file cannot be written a sentence is printed once, and the lesson goes on.
    """
    records = read()
    entry = records.setdefault(f"{lesson:02d}/{name}", {})
    entry.update(facts, when=datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        path = progress_file()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="progress", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(records, file, indent=1, sort_keys=True)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except CourseError as error:
        _warn(str(error))
    except OSError as error:
        _warn(f"Your progress could not be saved ({error.strerror}): the lesson goes on without.")
    return entry


def _warn(sentence: str) -> None:
    global _warned
    if not _warned:
        print(sentence)
        _warned = True
