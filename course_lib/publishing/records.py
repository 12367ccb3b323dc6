"""`course record`: runs what is too long for a lesson, once, and keeps what it found."""

import datetime
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from course_lib.publishing.build import compose_lesson, points_of
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.provenance import machine, source_hash
from course_lib.publishing.running import run_notebook
from course_lib.publishing.source import read_source
from course_lib.runtime import CourseError

_LIST = re.compile(r"\[\n((?:\s*(?:-?[\d.eE+-]+|true|false|null|NaN),?\n)+)\s*\]")


def record_lesson(
    files: LessonFiles,
    *,
    scale: str = "standard",
    seed: int = 0,
    points: Mapping[str, int] | None = None,
    on_cell: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a lesson with its cells tagged "record" and write what they pass to `record`.

    Args:
        files: the lesson.
        scale: of the run.
        seed: of the run.
        points: what each exercise is worth; the specification's where not given.
        on_cell: called after each cell.

    Returns:
        What was written to solutions/NN_slug.records.json.

    Raises:
        CourseError: the lesson has no such cell, a cell fails, or nothing was recorded.

    """
    points = points_of(files.number) if points is None else points
    source = read_source(files, points)
    where = files.show(files.source)
    if not any("record" in cell.tags for cell in source.cells):
        raise CourseError(
            f'{where} has nothing to record: tag a cell "record" and call record(name, value).'
        )
    composed = compose_lesson(files, points, recording=True)
    with tempfile.TemporaryDirectory(prefix="course-record-") as folder:
        kept = Path(folder) / "records.json"
        report = run_notebook(
            composed.solution,
            files.name,
            files.learner.parent if files.learner.parent.is_dir() else files.root,
            settings={
                "COURSE_RECORD_FILE": str(kept),
                "COURSE_SCALE": scale,
                "COURSE_SEED": str(seed),
            },
            on_cell=on_cell,
        )
        if report.error:
            raise CourseError(f"{where}: {report.error}")
        if not kept.exists():
            raise CourseError(
                f"{where}: its record cells ran and never called record(name, value)."
            )
        values = json.loads(kept.read_text(encoding="utf-8"))
    content = {
        "lesson": files.name,
        "command": f"course record {files.number:02d} --scale {scale} --seed {seed}",
        "values": values,
        "seconds": round(report.seconds),
        "source": source_hash(source, with_records=False),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    write_json(files.records, content)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON as people read it in a diff.

    Raises:
        CourseError: the file cannot be written.

    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    # A list of figures takes one line, not one for each figure.
    text = _LIST.sub(lambda match: f"[{' '.join(match[1].split())}]", text)
    try:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise CourseError(
            f"{path} cannot be written ({error.strerror}): "
            "give yourself the right to write in that folder."
        ) from error
