"""`course claims`: measures a lesson's claims over several seeds, judges them, keeps the record."""

import datetime
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course_lib.publishing.build import compose_lesson, points_of
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.provenance import machine, source_hash
from course_lib.publishing.records import write_json
from course_lib.publishing.running import run_notebook
from course_lib.publishing.source import read_source
from course_lib.runtime import CourseError

MARGIN = 2.0
# Below this the spread is rounding, and the claim holds or fails by arithmetic alone.
_EXACT = 1e-12


def measure(
    files: LessonFiles,
    seeds: int,
    points: Mapping[str, int] | None = None,
    *,
    scale: str = "standard",
    on_cell: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a lesson's solution once for each seed and judge its claims.

    Args:
        files: the lesson.
        seeds: seeds 0 to seeds − 1, at least 2 of them: one has no spread.
        points: what each exercise is worth; the specification's where not given.
        scale: of the runs; a record that is kept is made at "standard".
        on_cell: called after each cell.

    Returns:
        The record: seeds, judged claims, source hash, machine, date.

    Raises:
        CourseError: fewer than two seeds, a run fails, or the claims differ between seeds.

    """
    if seeds < 2:
        raise CourseError(f"--seeds is {seeds}: use 2 or more, since one seed has no spread.")
    points = points_of(files.number) if points is None else points
    before = source_hash(read_source(files, points))
    notebook = compose_lesson(files, points).solution
    runs: list[Sequence[Mapping[str, Any]]] = []
    for seed in range(seeds):
        report = run_notebook(
            notebook,
            files.name,
            files.learner.parent if files.learner.parent.is_dir() else files.root,
            settings={"COURSE_SEED": str(seed), "COURSE_SCALE": scale},
            on_cell=on_cell,
        )
        if report.error:
            raise CourseError(f"{files.show(files.source)} fails with seed {seed}: {report.error}")
        runs.append(report.claims)
    if source_hash(read_source(files, points)) != before:
        raise CourseError(
            f"{files.show(files.source)} or code that it imports changed while its claims were "
            "measured: run the command again."
        )
    return {
        "lesson": files.name,
        "command": f"course claims {files.number:02d} --seeds {seeds}",
        "scale": scale,
        "seeds": list(range(seeds)),
        "claims": judge(files.name, runs),
        "source": before,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def judge(name: str, runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Judge each claim over the runs of several seeds.

    A claim holds if it holds in every run, if each of its broken variants breaks the bound in every
    run, and, unless it is about time, if its mean distance inside the bound is at least two standard
    deviations of that distance over the runs (the sample's, n − 1).

    Args:
        name: the lesson's name, for sentences.
        runs: for each seed, the lines that `claim` wrote.

    Raises:
        CourseError: a claim's text is used twice, or a claim is missing in some run.

    """
    texts = [[line["claim"] for line in run] for run in runs]
    for each in texts:
        for text in each:
            if each.count(text) > 1:
                raise CourseError(f'{name}: two claims say "{text}": give each its own sentence.')
        if set(each) != set(texts[0]):
            odd = sorted(set(each) ^ set(texts[0]))[0]
            raise CourseError(
                f'{name}: the claim "{odd}" is made with some seeds only: make it whatever the seed.'
            )
    by_text = [{line["claim"]: line for line in run} for run in runs]
    return [_judge_one([run[text] for run in by_text]) for text in texts[0]]


def faults(files: LessonFiles, points: Mapping[str, int] | None = None) -> list[str]:
    """Return a sentence for each reason not to trust a lesson's record of claims; none if it stands.

    Raises:
        CourseError: the lesson's source is wrong.

    """
    source = read_source(files, points_of(files.number) if points is None else points)
    if not any("claim(" in cell.source for cell in source.cells if cell.kind == "code"):
        return []
    where = files.show(files.claims)
    again = f"run `course claims {files.number:02d} --seeds 3`"
    try:
        record = json.loads(files.claims.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"{where} is missing: {again}."]
    except (OSError, ValueError):
        return [f"{where} cannot be read as JSON: {again}."]
    try:
        if record["source"] != source_hash(source):
            return [f"{where} is stale, the lesson's code has changed since: {again}."]
        if record["scale"] != "standard" or len(record["seeds"]) < 2:
            return [f"{where} was not made at standard scale with two seeds or more: {again}."]
        return [
            f'{where}: the claim "{claim["claim"]}" is false: {claim["verdict"]}.'
            for claim in record["claims"]
            if claim["verdict"] != "holds"
        ]
    except (KeyError, TypeError):
        return [f"{where} is not a record of claims: {again}."]


def save(files: LessonFiles, record: Mapping[str, Any]) -> None:
    """Write a record of claims beside the lesson.

    Raises:
        CourseError: it cannot be written.

    """
    write_json(files.claims, record)


def _judge_one(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = lines[0]
    kind = first["bound"]["kind"]
    breaks = {
        name: {
            "measured": [line["breaks"][name]["measured"] for line in lines],
            "holds": [line["breaks"][name]["holds"] for line in lines],
        }
        for name in first["breaks"]
    }
    holds = [bool(line["holds"]) for line in lines]
    margin = _margin(kind, [(line["measured"], line["bound"]["value"]) for line in lines])
    verdict = "holds"
    surviving = [name for name, each in breaks.items() if any(each["holds"])]
    if not all(holds):
        verdict = f"it fails with {holds.count(False)} of {len(holds)} seeds"
    elif surviving:
        verdict = f'it also holds for the broken variant "{surviving[0]}"'
    elif not first["timing"] and margin is not None and margin < MARGIN:
        verdict = f"its bound is {margin:.1f} standard deviations away, fewer than {MARGIN:.0f}"
    return {
        "claim": first["claim"],
        "timing": first["timing"],
        "measured": [line["measured"] for line in lines],
        "bound": {"kind": kind, "values": [line["bound"]["value"] for line in lines]},
        "holds": holds,
        "margin": margin,
        "breaks": breaks,
        "verdict": verdict,
    }


def _margin(kind: str, pairs: Sequence[tuple[float, Any]]) -> float | None:
    """Return by how many standard deviations the figures lie inside the bound; None if by none, exactly."""
    if kind == "equals":
        return None
    sides = []
    if kind in {"at_least", "between"}:
        sides.append([value - (bound[0] if kind == "between" else bound) for value, bound in pairs])
    if kind in {"at_most", "between"}:
        sides.append([(bound[1] if kind == "between" else bound) - value for value, bound in pairs])
    margins = []
    for distances in sides:
        if not all(math.isfinite(each) for each in distances):
            # Inside an infinite distance, or a figure that is no number: `holds` says which.
            continue
        mean, spread = statistics.fmean(distances), statistics.stdev(distances)
        if spread > _EXACT * max(1.0, abs(mean)):
            margins.append(mean / spread)
    return round(min(margins), 2) if margins else None
