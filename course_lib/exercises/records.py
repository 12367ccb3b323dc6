"""What a lesson shows of computations too long for it: `record` keeps a value, `recorded` reads it."""

import json
import os
from pathlib import Path
from typing import Any

import course_lib
from course_lib.runtime import CourseError, current


def record(name: str, value: Any) -> None:
    """Keep a value for `recorded`; outside of `course record` it is only printed.

    It is called in cells tagged "record", which run only under `course record NN`.

    Args:
        name: what `recorded` will ask for.
        value: numbers, strings, lists and dictionaries, as JSON has them.

    Raises:
        CourseError: the value is not made of those.

    """
    try:
        value = json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise CourseError(
            f'record("{name}", …) got a value that JSON cannot hold ({error}): '
            "give numbers, strings, lists and dictionaries (tensor.tolist())."
        ) from error
    target = os.environ.get("COURSE_RECORD_FILE")
    if not target:
        print(f"{name} = {value} (kept only by `course record {current().lesson:02d}`)")
        return
    path = Path(target)
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**values, name: value}), encoding="utf-8")


def recorded(name: str, lesson: int | None = None) -> Any:
    """Return a value that `course record` kept.

    Args:
        name: as it was given to `record`.
        lesson: the lesson's number; the running one's if not given.

    Raises:
        CourseError: there is no such record.

    """
    number = current().lesson if lesson is None else lesson
    fresh = os.environ.get("COURSE_RECORD_FILE")
    if fresh and Path(fresh).exists():
        values = json.loads(Path(fresh).read_text(encoding="utf-8"))
        if name in values:
            return values[name]
    path = _records_file(number)
    if path is not None:
        try:
            return json.loads(path.read_text(encoding="utf-8"))["values"][name]
        except (OSError, ValueError, KeyError, TypeError):
            pass
    raise CourseError(
        f'There is no record "{name}" of lesson {number:02d}: run `course record {number:02d}`.'
    )


def _records_file(lesson: int) -> Path | None:
    """Return the lesson's records: beside its source, or beside its notebook where sources are absent."""
    root = Path(course_lib.__file__).parents[1]
    for folder in ("solutions", "notebooks"):
        for path in sorted((root / folder).glob(f"{lesson:02d}_*.records.json")):
            return path
    return None
