"""Mark one submission: run it in the sandbox, judge what comes back out here, give a reason for each loss."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from course_lib.exercises.forbidden import Use, find_forbidden
from course_lib.exercises.judging import CaseResult, KnownAnswers, Verdict, judge, kind_of
from course_lib.exercises.probing import Outcome
from course_lib.exercises.spec import Case, Exercise
from course_lib.grading.intake import Submission, parse_notebook
from course_lib.grading.notebook import (
    Lesson,
    Plan,
    lines_behind,
    patched_modules,
    plan,
    python_of,
)
from course_lib.grading.outputs import disagreements
from course_lib.grading.reduced import answer_modules, modules_of
from course_lib.grading.sandbox.protocol import (
    Cell,
    CellError,
    Limits,
    ProbeCall,
    Request,
    Response,
    Sandbox,
    Stop,
    Supplied,
)
from course_lib.grading.supply import finished_parts

Status = Literal["passed", "failed", "not-attempted", "forbidden", "not-graded"]

MOST_RESTARTS = 12
_DEATHS_AT_A_PLACE = 3  # and the code is taken to have ended itself
_MOST_DEATHS = 6  # at any places, before each further one is taken for the code's own
_MOST_REASON, _MOST_DETAIL, _MOST_FLAG, _MOST_FLAGS = 1500, 500, 300, 40
_UNJUDGED = "What came back could not be compared: a human will look at it."
_MAY_BE_SPARED = ("failed", "not-attempted")
# One thread at a time, except while a sandbox works: oracles and probes set torch's one random state, and
# CPython 3.11 cannot build two syntax trees at once ("AST constructor recursion depth mismatch").
_ONE_AT_A_TIME = threading.Lock()


class GradingTrouble(Exception):
    """The grader itself could not do its work; the message says what happened."""


@dataclass(frozen=True)
class Mark:
    """What one exercise got.

    Attributes:
        exercise: its name.
        points: what was earned.
        most: what it is worth.
        status: how it ended.
        reason: a sentence for the student; it holds nothing that their own code printed or raised.
        mistake: the name of the known mistake, or "".
        label: the kind of the simplest case that failed, or "".
        detail: for the instructor alone: the student's own error message, for example.

    """

    exercise: str
    points: float
    most: int
    status: Status
    reason: str
    mistake: str = ""
    label: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Marked:
    """What one submission got.

    Attributes:
        marks: one for each exercise.
        flags: what a human should look at.
        seconds: how long it took.
        problem: why it could not be graded, or "".
        retry: the problem is the grader's own, so that it is worth another try.
        code: by exercise, the cell that defines it; to be compared with other students'.

    """

    marks: tuple[Mark, ...]
    flags: tuple[str, ...]
    seconds: float
    problem: str = ""
    retry: bool = False
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Findings:
    """What the runs of one submission brought together."""

    cells: dict[int, CellError | None] = field(default_factory=dict)
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    stopped_cells: dict[int, str] = field(default_factory=dict)
    called: dict[str, list[str]] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)


class Marker:
    """Marks submissions of one lesson; used from several threads at once.

    Args:
        lesson: what is graded.
        cases: the hidden cases of each exercise.
        sandbox: where students' code runs.
        limits: what it may use.
        known: what the oracles answer, where it was worked out before.

    """

    def __init__(
        self,
        lesson: Lesson,
        cases: Mapping[str, tuple[Case, ...]],
        sandbox: Sandbox,
        limits: Limits,
        known: Mapping[str, KnownAnswers] | None = None,
    ) -> None:
        self._lesson = lesson
        self._cases = cases
        self._sandbox = sandbox
        self._limits = limits
        self._probes_module = lesson.exercises[0].probe.__module__
        self._modules = modules_of()
        self._answers = answer_modules(lesson.exercises)
        self._known = known or {each.name: KnownAnswers(each) for each in lesson.exercises}
        self._calls = {
            each.name: ProbeCall(
                each.name, each.defines, each.probe.__name__, cases[each.name], each.forbidden
            )
            for each in lesson.exercises
        }
        self._supplies: dict[tuple[str, ...], tuple[Supplied, ...]] = {}

    def mark(self, submission: Submission) -> Marked:
        """Return the submission's marks; a file that cannot be taken in gets none, and says why."""
        with _ONE_AT_A_TIME:
            return self._mark(submission)

    def mark_safely(self, submission: Submission) -> Marked:
        """Return the submission's marks, or none where the grader itself fails: one must not end the batch."""
        try:
            return self.mark(submission)
        except Exception as error:
            return self.nothing(
                f"The grader failed on this submission ({type(error).__name__}): "
                "grade it again or look at it by hand.",
                retry=True,
            )

    def stop(self) -> None:
        """End what runs, so that whoever waits for it goes on."""
        self._sandbox.close()

    def _mark(self, submission: Submission) -> Marked:
        begun = time.monotonic()
        try:
            if submission.problem:
                raise ValueError(submission.problem)
            cells = parse_notebook(submission.data)
        except ValueError as error:
            return self.nothing(str(error), time.monotonic() - begun)
        planned = plan(self._lesson, cells)
        try:
            findings = self._run(planned, self._lesson.exercises)
            marks = {
                exercise.name: self._judge(exercise, planned, findings)
                for exercise in self._lesson.exercises
            }
            marks |= self._spared(planned, marks)
        except GradingTrouble as trouble:
            return self.nothing(str(trouble), time.monotonic() - begun, retry=True)
        flags = self._flags(submission, planned, findings, marks)
        flags += disagreements(
            self._lesson.published,
            cells,
            {name: mark.status == "passed" for name, mark in marks.items()},
            {each.name: each.defines for each in self._lesson.exercises},
            [index for index, error in findings.cells.items() if error is None],
            findings.printed,
        )
        return Marked(
            tuple(_readable(mark) for mark in marks.values()),
            tuple(_plain_text(flag, _MOST_FLAG) for flag in flags),
            time.monotonic() - begun,
            code={name: each[-1].source for name, each in planned.definitions.items() if each},
        )

    def nothing(self, problem: str, seconds: float = 0.0, retry: bool = False) -> Marked:
        """Return no marks for a submission that could not be graded, with the reason."""
        return nothing(self._lesson.exercises, problem, seconds, retry)

    # --- running -------------------------------------------------------------------------

    def _run(
        self,
        planned: Plan,
        exercises: Sequence[Exercise],
        supply: tuple[Supplied, ...] = (),
    ) -> _Findings:
        """Run the cells and probe the exercises; where a run is stopped, go on without what stopped it."""
        findings = _Findings()
        remaining = list(exercises)
        cells = list(planned.cells)
        starts_failed = 0
        deaths: Counter[str] = Counter()
        for _ in range(MOST_RESTARTS):
            request = Request(
                self._probes_module,
                tuple(cells),
                tuple(self._calls[each.name] for each in remaining),
                supply,
            )
            with _others_go_on():
                response = self._run_to_its_end(request, deaths)
            findings.cells.update(response.cells)
            findings.outcomes.update(response.outcomes)
            findings.missing.update(response.missing)
            findings.called.update(response.called)
            if len(response.output.encode()) < self._limits.kept_output_bytes:
                findings.printed.append(response.output)
            if response.stop is None:
                return findings
            kind, _, name = response.stop.unit.partition(" ")
            if kind == "start":
                starts_failed += 1
                if starts_failed == 2:
                    last = response.output.strip().splitlines()[-1:] or ["no message"]
                    raise GradingTrouble(
                        f"The sandbox did not start ({response.stop.why}: {last[0][:200]}): "
                        "grade this submission again."
                    )
                continue
            if kind == "cell":
                findings.stopped_cells[int(name)] = _stop_sentence(response.stop, self._limits)
                cells = [cell for cell in cells if cell.index != int(name)]
            elif name not in findings.outcomes:
                findings.lost[name] = _stop_sentence(response.stop, self._limits)
            settled = {*findings.lost, *findings.outcomes, *findings.missing}
            remaining = [each for each in remaining if each.name not in settled]
            if not remaining:
                return findings
        for each in remaining:
            findings.lost[each.name] = (
                f"The notebook ended the process that graded it more than {MOST_RESTARTS} times."
            )
        return findings

    def _run_to_its_end(self, request: Request, deaths: Counter[str]) -> Response:
        """Run a request; one whose process dies is run again, until it has died three times at the same place.

        Code that ends its process does so each time. What the machine killed, for memory say, or an
        operator, costs the student nothing; that it strikes the same place again and again is the less
        likely the more often it is tried. ``deaths`` counts them by place: a notebook that dies at ever
        other ones is not run again for ever.
        """
        while True:
            response = self._sandbox.run(request, self._limits)
            stop = response.stop
            if stop is None or stop.why != "died":
                return response
            deaths[stop.unit] += 1
            if deaths[stop.unit] >= _DEATHS_AT_A_PLACE or deaths.total() > _MOST_DEATHS:
                return response

    # --- judging -------------------------------------------------------------------------

    def _judge(self, exercise: Exercise, planned: Plan, findings: _Findings) -> Mark:
        """Return the exercise's mark from what the runs brought."""

        def lost(status: Status, reason: str, detail: str = "") -> Mark:
            return Mark(exercise.name, 0.0, exercise.points, status, reason, detail=detail)

        definitions = planned.definitions[exercise.name]
        if definitions:
            uses = _proved_uses(definitions[-1].source, exercise)
            if uses:
                return lost(
                    "forbidden",
                    f"You used `{uses[0].name}` (line {uses[0].lineno} of the cell), which is what this "
                    "exercise asks you to build.",
                )
        name = exercise.name
        if name in findings.lost:
            return lost("failed", findings.lost[name])
        if name in findings.missing:
            return lost(*self._why_missing(exercise, planned, findings))
        if name not in findings.outcomes:
            return lost("failed", "Your code ended the process before the exercise was finished.")
        try:
            known = self._known[name]
            verdict = judge(exercise, list(self._cases[name]), findings.outcomes[name], known=known)
            return _mark_of(exercise, verdict, known, [each.source for each in definitions])
        except (
            Exception
        ) as error:  # a value so odd that the comparison fails, or a fault in an oracle
            return lost("not-graded", _UNJUDGED, f"{type(error).__name__}: {error}")

    def _why_missing(
        self, exercise: Exercise, planned: Plan, findings: _Findings
    ) -> tuple[Status, str, str]:
        names = " and ".join(f"`{each}`" for each in exercise.defines)
        for definition in reversed(planned.definitions[exercise.name]):
            if definition.index in findings.stopped_cells:
                return "failed", findings.stopped_cells[definition.index], ""
            error = findings.cells.get(definition.index)
            if error is not None:
                line = f" in line {error.lineno}" if error.lineno else ""
                return (
                    "failed",
                    f"The cell that defines {names} stopped{line} with {_known(error.type)}.",
                    error.message,
                )
        elsewhere = planned.elsewhere[exercise.name]
        if any(cell.type == "code" for cell in elsewhere):
            return "failed", f"The cell that defines {names} has a syntax error.", ""
        if elsewhere:
            return "failed", f"{names} stands in a cell that is not a code cell.", ""
        return "not-attempted", f"No cell defines {names}.", ""

    def _spared(self, planned: Plan, marks: Mapping[str, Mark]) -> dict[str, Mark]:
        """Mark failed exercises again, with finished versions of the failed ones that they build on."""
        by_name = {exercise.name: exercise for exercise in self._lesson.exercises}
        again = {}
        for exercise in self._lesson.exercises:
            failed = [
                by_name[name]
                for name in _all_needs(exercise, by_name)
                if marks[name].status != "passed"
            ]
            written = {cell.index for cell in planned.added}
            tried = any(each.index in written for each in planned.definitions[exercise.name])
            # A call of an earlier stub looks like "not attempted", so the cell itself tells.
            if not failed or not tried or marks[exercise.name].status not in _MAY_BE_SPARED:
                continue
            findings = self._run(planned, [exercise], self._supply(failed))
            mark = self._judge(exercise, planned, findings)
            names = ", ".join(f"`{each.name}`" for each in failed)
            note = f" (Graded with the course's version of {names}, so that its loss is not counted twice.)"
            again[exercise.name] = replace(mark, reason=mark.reason + note)
        return again

    def _supply(self, failed: Sequence[Exercise]) -> tuple[Supplied, ...]:
        """Return the finished parts of some exercises, cut out of their modules once."""
        names = tuple(each.name for each in failed)
        if names not in self._supplies:
            self._supplies[names] = finished_parts(failed, self._answers, self._modules)
        return self._supplies[names]

    def _flags(
        self,
        submission: Submission,
        planned: Plan,
        findings: _Findings,
        marks: Mapping[str, Mark],
    ) -> list[str]:
        """Return what a human should look at; none of it changes a mark."""
        flags = []
        if submission.late:
            flags.append("Canvas marked the file late.")
        if not any(planned.definitions.values()):
            flags.append("No exercise's name is defined: is this another lesson's notebook?")
        flags += [f"Cell {index}: {why}" for index, why in findings.stopped_cells.items()]
        for cell in planned.cells:
            for what, lineno in patched_modules(cell.source):
                flags.append(f"Cell {cell.index}, line {lineno} {what}.")
        flags += [
            f"`{mark.exercise}` could not be judged ({mark.detail})."
            for mark in marks.values()
            if mark.status == "not-graded"
        ]
        for exercise in self._lesson.exercises:
            if marks[exercise.name].status != "passed":
                continue
            flags += [
                f"While `{exercise.name}` was asked, `{name}` was called, which it does not allow."
                for name in findings.called.get(exercise.name, ())
            ]
            flags += self._forbidden_elsewhere(exercise, planned.added)
            if not planned.definitions[exercise.name]:
                flags.append(f"`{exercise.name}` is right, but no cell is seen to define it.")
        flags = list(dict.fromkeys(flags))
        more = len(flags) - _MOST_FLAGS
        return flags if more <= 0 else [*flags[:_MOST_FLAGS], f"There are {more} more flags."]

    def _forbidden_elsewhere(self, exercise: Exercise, added: Sequence[Cell]) -> list[str]:
        return [
            f"Cell {cell.index}, line {use.lineno} uses `{use.name}`, "
            f"which `{exercise.name}` does not allow."
            for cell in added
            for use in find_forbidden(python_of(cell.source), exercise.forbidden)
        ]


def known_answers(
    exercises: Iterable[Exercise], cases: Mapping[str, tuple[Case, ...]]
) -> dict[str, KnownAnswers]:
    """Return what the oracles answer in all cases: work for the time in which a sandbox starts."""
    found = {}
    with _ONE_AT_A_TIME:
        for exercise in exercises:
            found[exercise.name] = KnownAnswers(exercise)
            for case in cases[exercise.name]:
                with suppress(Exception):  # it will fail again, where it counts and is told
                    found[exercise.name].right(case)
    return found


def nothing(
    exercises: Iterable[Exercise], problem: str, seconds: float = 0.0, retry: bool = False
) -> Marked:
    """Return no marks for a submission that could not be graded, with the reason."""
    marks = tuple(
        Mark(exercise.name, 0.0, exercise.points, "not-graded", problem) for exercise in exercises
    )
    return Marked(marks, (problem,), seconds, problem, retry)


def _proved_uses(source: str, exercise: Exercise) -> list[Use]:
    """Return the forbidden names behind the exercise's objects in the cell that defines them."""
    behind = lines_behind(source, exercise.defines)
    uses = find_forbidden(python_of(source), exercise.forbidden)
    return [use for use in uses if behind is None or use.lineno in behind]


def _readable(mark: Mark) -> Mark:
    """Return the mark with texts that are safe to show anywhere, however the student's code chose them."""
    return replace(
        mark,
        reason=_plain_text(mark.reason, _MOST_REASON),
        detail=_plain_text(mark.detail, _MOST_DETAIL),
    )


def _plain_text(text: str, most: int) -> str:
    """Return a text on one line, cut, without characters that steer a terminal or the direction of writing."""
    shown = "".join(
        each if each.isprintable() else " " if each.isspace() else "�" for each in text[:most]
    )
    return shown if len(text) <= most else shown[: most - 1] + "…"


@contextmanager
def _others_go_on() -> Iterator[None]:
    """Let other threads mark while this one waits for a sandbox."""
    _ONE_AT_A_TIME.release()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.acquire()


def _all_needs(exercise: Exercise, by_name: Mapping[str, Exercise]) -> list[str]:
    found: list[str] = []
    queue = list(exercise.needs)
    while queue:
        name = queue.pop(0)
        if name not in found:
            found.append(name)
            queue += by_name[name].needs
    return found


def _stop_sentence(stop: Stop, limits: Limits) -> str:
    what = "This cell" if stop.unit.startswith("cell") else "Your code"
    return {
        "died": f"{what} ended the process (os._exit, a signal, or a crash).",
        "cpu": f"{what} used more than {limits.unit_cpu_seconds:g} seconds of processor time: "
        "is there an endless loop?",
        "wall": f"{what} took more than {limits.unit_wall_seconds:g} seconds: does it wait for something?",
        "memory": f"{what} used more than {limits.memory_bytes / 2**30:.3g} GB of memory.",
        "processes": f"{what} started more than {limits.processes} processes or threads.",
        "reply": f"{what} sent back something that cannot be read, or far too much.",
    }[stop.why]


def _mark_of(
    exercise: Exercise, verdict: Verdict, known: KnownAnswers, sources: Sequence[str]
) -> Mark:
    """Turn a verdict into a mark whose reason gives away neither the hidden input nor what was expected."""
    if verdict.status == "passed":
        return Mark(exercise.name, float(exercise.points), exercise.points, "passed", "All right.")
    if verdict.status == "not-attempted":
        return Mark(exercise.name, 0.0, exercise.points, "not-attempted", "Not attempted.")
    simplest = verdict.failing[0]
    why = verdict.mistake.says if verdict.mistake else _redacted(known, simplest, sources)
    if verdict.partly:
        why += f" On other inputs it looks like this mistake: {verdict.partly.says}"
    if verdict.right:
        why += f" Right in every case: {', '.join(verdict.right)}."
    count = f"{len(verdict.failing)} of {verdict.cases} cases are wrong."
    return Mark(
        exercise.name,
        0.0,
        exercise.points,
        "failed",
        f"{why} {count}",
        mistake=verdict.mistake.name if verdict.mistake else "",
        label=simplest.case.label,
        detail=verdict.message if not verdict.mistake else "",
    )


def _redacted(known: KnownAnswers, result: CaseResult, sources: Sequence[str]) -> str:
    """Say what kind of difference it is, without numbers, and without the words of the student's code.

    An exception's message is the student's to choose, so it could carry the hidden input out; its type
    and line are named only where they are Python's own and the notebook's own.
    """
    error = result.outcome.error
    if error is not None:
        lines = {line.strip() for source in sources for line in source.splitlines()}
        where = f" in the line `{error.line}`" if error.line and error.line in lines else ""
        return f"Your code stopped{where} with {_known(error.type)}."
    assert result.difference is not None
    assert result.outcome.values is not None
    key = result.difference.key
    expected = known.right(result.case).get(key)
    got = result.outcome.values.get(key)
    if expected is None and key in result.case.inputs:
        return f"Your code changed its input `{key}` in place."
    if expected is None:
        return f"The {key} is wrong."
    if key not in result.outcome.values:
        return f"There is no {key}."
    if got is None:
        return f"The {key} is None: did you forget `return`?"
    if type(got) is not type(expected):
        return f"The {key} is {kind_of(got)} and should be {kind_of(expected)}."
    if isinstance(expected, torch.Tensor):
        if got.shape != expected.shape:
            return f"The {key} has the wrong shape."
        if got.dtype != expected.dtype:
            return f"The {key} has dtype {got.dtype} and should have {expected.dtype}."
        if got.is_floating_point() and bool((got.isnan() & ~expected.isnan()).any()):
            return f"The {key} holds NaN (not a number)."
    return f"The {key} has wrong values."


def _known(name: str) -> str:
    """Return an exception's name if it is one of Python's own."""
    import builtins

    known = getattr(builtins, name, None)
    return name if isinstance(known, type) and issubclass(known, BaseException) else "an exception"
