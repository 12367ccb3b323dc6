"""What comes out: CSV files, JSON, a feedback page for each student, a report for the class."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from course_lib.exercises.spec import Exercise
from course_lib.grading.gradebook import Gradebook, Row

_BINS = 10


def write_all(book: Gradebook, exercises: Sequence[Exercise], out: Path) -> dict[str, Any]:
    """Write every report of a gradebook to ``out`` and return what grades.json holds."""
    rows = book.rows()
    lesson = book.fact("lesson") or ""
    grades = as_json(rows, lesson, exercises)
    _write(out / "grades.json", json.dumps(grades, indent=2, ensure_ascii=False) + "\n")
    _write(out / "gradebook.csv", gradebook_csv(rows, exercises))
    _write(out / "canvas.csv", canvas_csv(rows, lesson, exercises))
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    most = sum(exercise.points for exercise in exercises)
    page = templates.get_template("feedback.html")
    (out / "feedback").mkdir(exist_ok=True)
    for row in rows:
        if row.state != "waiting":
            text = page.render(row=row, lesson=lesson, most=most)
            _write(out / "feedback" / f"{row.student}.html", text)
    _write(
        out / "report.html",
        templates.get_template("report.html").render(lesson=lesson, most=most, **grades["class"]),
    )
    return grades


def as_json(rows: Sequence[Row], lesson: str, exercises: Sequence[Exercise]) -> dict[str, Any]:
    """Return all students' grades and the class's figures as plain data."""
    return {
        "lesson": lesson,
        "points": sum(exercise.points for exercise in exercises),
        "students": [
            {
                "student": row.student,
                "name": row.name,
                "lms_id": row.lms_id,
                "origin": row.origin,
                "state": row.state,
                "problem": row.problem,
                "points": row.total,
                "days_late": row.days_late,
                "penalty": row.penalty,
                "seconds": round(row.seconds, 2),
                "flags": list(row.flags),
                "exercises": [
                    {
                        "exercise": mark.exercise,
                        "points": row.points_of(mark),
                        "most": mark.most,
                        "status": mark.status,
                        "reason": mark.reason,
                        "mistake": mark.mistake,
                        "failed_case": mark.label,
                        "detail": mark.detail,
                        "adjusted": (
                            {"from": mark.points, "reason": row.adjustments[mark.exercise].reason}
                            if mark.exercise in row.adjustments
                            else None
                        ),
                    }
                    for mark in row.marks
                ],
            }
            for row in rows
        ],
        "class": _class(rows, exercises),
    }


def _class(rows: Sequence[Row], exercises: Sequence[Exercise]) -> dict[str, Any]:
    graded = [row for row in rows if row.state == "done" and not row.problem]
    most = sum(exercise.points for exercise in exercises)
    totals = sorted(row.total for row in graded)
    bins = [0] * _BINS
    for total in totals:
        bins[min(_BINS - 1, int(total / most * _BINS))] += 1
    by_exercise, mistakes = [], Counter[tuple[str, str, str]]()
    for exercise in exercises:
        marks = [mark for row in graded for mark in row.marks if mark.exercise == exercise.name]
        statuses = Counter(mark.status for mark in marks)
        by_exercise.append(
            {
                "exercise": exercise.name,
                "passed": statuses["passed"],
                "failed": statuses["failed"] + statuses["forbidden"] + statuses["not-graded"],
                "not_attempted": statuses["not-attempted"],
            }
        )
        says = {mistake.name: mistake.says for mistake in exercise.mistakes}
        mistakes.update(
            (exercise.name, mark.mistake, says.get(mark.mistake, ""))
            for mark in marks
            if mark.mistake
        )
    slowest = sorted(graded, key=lambda row: -row.seconds)[:5]
    return {
        "submissions": len(rows),
        "graded": len(graded),
        "mean": round(sum(totals) / len(totals), 2) if totals else None,
        "median": _median(totals),
        "distribution": [
            {
                "from": round(most * i / _BINS, 2),
                "to": round(most * (i + 1) / _BINS, 2),
                "count": count,
            }
            for i, count in enumerate(bins)
        ],
        "exercises": by_exercise,
        "mistakes": [
            {"exercise": exercise, "mistake": name, "says": says, "count": count}
            for (exercise, name, says), count in mistakes.most_common(12)
        ],
        "not_graded": [
            {"student": row.student, "problem": row.problem or "Not graded yet."}
            for row in rows
            if row.state != "done" or row.problem
        ],
        "flagged": [
            {"student": row.student, "flags": list(row.flags)}
            for row in rows
            if row.flags and not row.problem
        ],
        "slowest": [{"student": row.student, "seconds": round(row.seconds, 1)} for row in slowest],
    }


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def gradebook_csv(rows: Sequence[Row], exercises: Sequence[Exercise]) -> str:
    """Return one line for each student: points of each exercise, penalty, total, what went wrong."""
    names = [exercise.name for exercise in exercises]
    lines: list[list[Any]] = [
        ["student", "name", "lms_id", *names, "penalty", "total", "state", "problem", "flags"]
    ]
    for row in rows:
        points = {mark.exercise: row.points_of(mark) for mark in row.marks}
        lines.append(
            [
                row.student,
                row.name,
                row.lms_id,
                *(points.get(name, "") for name in names),
                row.penalty,
                row.total if row.state == "done" else "",
                row.state,
                row.problem,
                " ".join(row.flags),
            ]
        )
    return _csv(lines)


def canvas_csv(rows: Sequence[Row], lesson: str, exercises: Sequence[Exercise]) -> str:
    """Return the table that Canvas imports; students without a Canvas number and failures are left out."""
    most = sum(exercise.points for exercise in exercises)
    lines: list[list[Any]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", f"Lesson {lesson}"],
        ["    Points Possible", "", "", "", "", most],
    ]
    for row in rows:
        if row.lms_id and row.state == "done" and not row.problem:
            lines.append([row.name, row.lms_id, "", "", "", row.total])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[_harmless(each) for each in line] for line in lines])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Keep a spreadsheet from taking a student's text for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _write(path: Path, text: str) -> None:
    """Replace a file whole, so that a reader or a kill never meets half of it."""
    draft = path.with_name(f".{path.name[:60]}.draft")
    draft.write_text(text, encoding="utf-8", newline="")
    os.replace(draft, path)
