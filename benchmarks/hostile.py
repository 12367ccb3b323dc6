"""Hostile, broken, careless and unusual submissions: how many got more or less than is fair.

Usage: python benchmarks/hostile.py [--family NAME]

Runs the collection of tests/grading/hostile in the real sandbox, prints a table and writes
benchmarks/hostile.json. Fooled: got more than fair, or reached something of the instructor's. Harsh: got less.
Crashed: the grader itself failed.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from course_lib.publishing.provenance import machine

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "grading"))

from hostile.collection import FAMILIES, HANDED, PAIRS  # noqa: E402
from hostile.stage import Found, Stage, grade_class, judge_handed  # noqa: E402

Results = dict[str, list[Found]]


def run(wanted: str, console: Console) -> Results:
    """Return what came of each case, by family; of one family if one is wanted. Say at once what went wrong."""
    results: Results = {}

    def note(family: str, name: str, found: Found) -> None:
        results.setdefault(family, []).append(found)
        if found.complaints:
            console.print(f"{family}: {name}", style="bold", markup=False)
            console.print("\n".join(found.complaints), markup=False)

    chosen = {family: handed for family, handed in HANDED.items() if wanted in family}
    if chosen:
        with tempfile.TemporaryDirectory() as place:
            graded = grade_class([one for each in chosen.values() for one in each], Path(place))
        for text in graded.complaints:
            note("injection into reports", "all reports", Found(fooled=True, complaints=[text]))
        for family, handed in chosen.items():
            for one in handed:
                note(family, one.name, judge_handed(one, graded))
    with Stage() as stage:
        for family, cases in FAMILIES.items():
            if wanted in family:
                for each, found in zip(cases, stage.judge_all(cases)):
                    note(family, each.name, found)
        for text in stage.disturbed():
            note("theft and sabotage", "all together", Found(fooled=True, complaints=[text]))
        for name, data in PAIRS.items() if wanted in "pairs" else ():
            note("pairs: before and beside honest ones", name, stage.pair(data))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="", help="only families whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    console = Console(width=100)
    results = run(options.family, console)
    seconds = time.perf_counter() - begun
    kinds = ("fooled", "harsh", "crashed")
    table = Table(title="Hostile, broken and unusual submissions")
    table.add_column("family")
    for column in ("submissions", *kinds):
        table.add_column(column, justify="right")
    rows = {
        family: {
            "submissions": len(found),
            **{kind: sum(getattr(each, kind) for each in found) for kind in kinds},
        }
        for family, found in results.items()
    }
    if not options.family:
        rows["all"] = {
            name: sum(row[name] for row in rows.values()) for name in ("submissions", *kinds)
        }
    for family, row in rows.items():
        table.add_row(family, *map(str, row.values()), style="bold" if family == "all" else "")
    console.print(table)
    console.print(f"{seconds:.0f} s")
    if not options.family:
        record = {
            "command": "python benchmarks/hostile.py",
            "machine": machine(),
            "seconds": round(seconds, 1),
            "families": rows,
        }
        target = HERE / "hostile.json"
        target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sys.exit(any(each.complaints for found in results.values() for each in found))


if __name__ == "__main__":
    main()
