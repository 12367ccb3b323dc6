"""What comes out: CSV files, JSON, a feedback page for each student, a report for the class."""

import contextlib
import csv
import inspect
import io
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from course_lib.exercises.spec import Exercise
from course_lib.grading.gradebook import Gradebook, Row
from course_lib.grading.notebook import Lesson, plan
from course_lib.grading.roster import Matching, Student, match
from course_lib.grading.similarity import (
    LEAST_STUDENTS,
    MOST_STUDENTS,
    Similarities,
    normalised,
    stand_out,
)

_BINS = 10
_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def write_all(book: Gradebook, exercises: Sequence[Exercise], out: Path) -> dict[str, Any]:
    """Write every report of a gradebook to ``out`` and return what grades.json holds."""
    rows = book.rows()
    lesson = book.fact("lesson") or ""
    roster = book.roster
    matching = match(rows, roster) if roster else None
    alike = _alike(book, rows, exercises)
    grades = as_json(rows, lesson, exercises, matching, alike)
    headings = roster.headings if roster else ()
    _write(out / "grades.json", json.dumps(grades, indent=2, ensure_ascii=False) + "\n")
    _write(out / "gradebook.csv", gradebook_csv(rows, exercises, matching))
    _write(out / "canvas.csv", canvas_csv(rows, lesson, exercises, matching, headings))
    _write(out / "moodle.csv", moodle_csv(rows, matching))
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
            text = page.render(row=row, name=_name(row, matching), lesson=lesson, most=most)
            _write(out / "feedback" / f"{row.student}.html", text)
    _write(
        out / "report.html",
        templates.get_template("report.html").render(lesson=lesson, most=most, **grades["class"]),
    )
    return grades


def keep_published(book: Gradebook, lesson: Lesson) -> None:
    """Note what the published notebook gives everyone for each exercise, so that it counts for nobody."""
    stubs = {
        name: [each.source for each in found]
        for name, found in plan(lesson, lesson.published).definitions.items()
    }
    book.set_fact("stubs", json.dumps(stubs))


def _alike(book: Gradebook, rows: Sequence[Row], exercises: Sequence[Exercise]) -> Similarities:
    """Compare the code of all students, without what everyone has by nature."""
    code = book.code()
    common: dict[str, list[str]] = json.loads(book.fact("stubs") or "{}")
    for exercise in exercises:
        sources = common.setdefault(exercise.name, [])
        with contextlib.suppress(OSError, TypeError):
            sources.append("\n".join(inspect.getsource(each) for each in exercise.finished))
        right = [
            code[row.student][exercise.name]
            for row in rows
            for mark in row.marks
            if mark.exercise == exercise.name
            and mark.status == "passed"
            and exercise.name in code.get(row.student, {})
        ]
        sources += sorted(right, key=lambda each: (len(normalised(each)), each))[:1]
    graded = {row.student: row.origin for row in rows if row.state == "done" and not row.problem}
    return stand_out({name: code[name] for name in graded if name in code}, common, graded)


def _name(row: Row, matching: Matching | None) -> str:
    """Return the roster's name of a student, else the one that was found."""
    student = matching.students.get(row.student) if matching else None
    return (student.name if student else "") or row.name


def as_json(
    rows: Sequence[Row],
    lesson: str,
    exercises: Sequence[Exercise],
    matching: Matching | None = None,
    alike: Similarities | None = None,
) -> dict[str, Any]:
    """Return all students' grades and the class's figures as plain data."""
    return {
        "lesson": lesson,
        "points": sum(exercise.points for exercise in exercises),
        "students": [
            {
                "student": row.student,
                "name": row.name,
                "lms": row.lms,
                "lms_id": row.lms_id,
                "email": row.email,
                "roster": _of_roster(row, matching),
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
        "class": {
            **_class(rows, exercises),
            "roster": _roster(rows, matching),
            "similar": _similar(rows, matching, alike),
        },
    }


def _of_roster(row: Row, matching: Matching | None) -> dict[str, str] | None:
    student = matching.students.get(row.student) if matching else None
    if student is None or matching is None:
        return None
    return {**asdict(student), "matched_by": matching.how[row.student]}


def _roster(rows: Sequence[Row], matching: Matching | None) -> dict[str, Any] | None:
    """Return who of the roster is there, who is not, and who is there and not in the roster."""
    if matching is None:
        return None
    return {
        "students": len(matching.students) + len(matching.missing),
        "matched": len(matching.students),
        "unmatched": [
            {"student": row.student, "name": row.name, "why": matching.unmatched[row.student]}
            for row in rows
            if row.student in matching.unmatched
        ],
        "missing": [{"who": each.called, **asdict(each)} for each in matching.missing],
    }


def _similar(
    rows: Sequence[Row], matching: Matching | None, alike: Similarities | None
) -> dict[str, Any]:
    names = {row.student: _name(row, matching) for row in rows}
    pairs = alike.pairs if alike else ()
    return {
        "threshold": round(alike.threshold, 3) if alike and alike.threshold is not None else None,
        "compared_from": LEAST_STUDENTS,
        "compared_to": MOST_STUDENTS,
        "pairs": [
            {
                "students": list(each.students),
                "names": [names[name] for name in each.students],
                "similarity": round(each.similarity, 3),
                "shared": each.shared,
                "exercises": list(each.exercises),
            }
            for each in pairs
        ],
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
        "forbidden": [
            {"student": row.student, "exercise": mark.exercise, "why": mark.reason}
            for row in graded
            for mark in row.marks
            if mark.status == "forbidden"
        ],
        "slowest": [{"student": row.student, "seconds": round(row.seconds, 1)} for row in slowest],
    }


def _median(values: Sequence[float]) -> float | None:
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def gradebook_csv(
    rows: Sequence[Row], exercises: Sequence[Exercise], matching: Matching | None = None
) -> str:
    """Return one line for each student: who it is, points of each exercise, penalty, total, what went wrong."""
    names = [exercise.name for exercise in exercises]
    people = ["student", "name", "lms_id", "email"]
    if matching:
        people += ["roster_name", "roster_id", "roster_email", "matched_by"]
    lines: list[list[Any]] = [
        [*people, *names, "penalty", "total", "state", "problem", "adjusted", "flags"]
    ]
    for row in rows:
        points = {mark.exercise: row.points_of(mark) for mark in row.marks}
        who = [row.student, row.name, row.lms_id, row.email]
        if matching:
            student = matching.students.get(row.student, Student(""))
            number = student.canvas_id or student.number or student.sis_id or student.login
            who += [student.name, number, student.email, matching.how.get(row.student, "")]
        adjusted = [f"{name}: {each.reason}" for name, each in row.adjustments.items()]
        lines.append(
            [
                *who,
                *(points.get(name, "") for name in names),
                row.penalty,
                row.total if row.state == "done" else "",
                row.state,
                row.problem,
                " ".join(adjusted),
                " ".join(row.flags),
            ]
        )
    return _csv(lines)


def canvas_csv(
    rows: Sequence[Row],
    lesson: str,
    exercises: Sequence[Exercise],
    matching: Matching | None = None,
    headings: Sequence[str] = (),
) -> str:
    """Return the table that Canvas imports; students whom Canvas would not know and failures are left out.

    With a roster that is Canvas's own export, its column of this lesson is filled in.
    """
    most = sum(exercise.points for exercise in exercises)
    name = f"Lesson {lesson}"
    column = next((each for each in headings if re.fullmatch(rf"{name} \(\d+\)", each)), name)
    lines: list[list[Any]] = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", column],
        ["    Points Possible", "", "", "", "", most],
    ]
    for row in rows:
        if row.state != "done" or row.problem:
            continue
        student = matching.students.get(row.student) if matching else None
        if student and (student.canvas_id or student.sis_id):
            who = [student.name, student.canvas_id, student.sis_id, student.login, student.section]
        elif row.lms == "canvas":
            who = [row.name, row.lms_id, "", "", ""]
        else:
            continue
        lines.append([*who, row.total])
    return _csv(lines)


def moodle_csv(rows: Sequence[Row], matching: Matching | None = None) -> str:
    """Return the table that Moodle imports, as a worksheet of one assignment or into the gradebook.

    Students whom Moodle would not know (no participant number, ID number or e-mail address) and failures
    are left out.
    """
    lines: list[list[Any]] = [["Identifier", "Full name", "ID number", "Email address", "Grade"]]
    for row in rows:
        if row.state != "done" or row.problem:
            continue
        student = (matching.students.get(row.student) if matching else None) or Student("")
        participant = row.lms_id if row.lms == "moodle" else student.participant
        email = student.email or row.email
        if participant or student.number or email:
            identifier = f"Participant {participant}" if participant else ""
            name = student.name or row.name
            lines.append([identifier, name, student.number, email, row.total])
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[_harmless(each) for each in line] for line in lines])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Keep a spreadsheet from taking a student's text for a formula."""
    if isinstance(value, str) and value.lstrip(" \t\r\n").startswith(_FORMULAS):
        return "'" + value
    return value


def _write(path: Path, text: str) -> None:
    """Replace a file whole, so that a reader or a kill never meets half of it."""
    draft = path.with_name(f".{path.name[:60]}.draft")
    draft.write_text(text, encoding="utf-8", newline="")
    os.replace(draft, path)
