"""Grading on a Dask cluster: throughput against workers, and what a submission costs in core-seconds.

Usage: python benchmarks/dask_scaling.py [--workers 1 2] [--small 24] [--large 192] [--notebooks DIR]

A scheduler and that many workers, each with one thread and its own sandbox, run on this machine; lesson 07 is handed
in as in benchmarks/grading.py. Each number of workers grades a small and a large class: what the large one takes
longer is throughput without any start-up. More workers than cores show nothing, so there are as many as cores if
--workers is not given. Prints a table, writes benchmarks/dask_scaling.json and docs/images/dask_scaling.png.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FIGURE = ROOT / "docs" / "images" / "dask_scaling.png"
sys.path.insert(0, str(ROOT / "tests" / "grading"))

from grading import LESSON, class_of, hand_in, ours, timed  # noqa: E402
from loopback import Loopback  # noqa: E402

from course_lib.publishing.lessons import select  # noqa: E402
from course_lib.publishing.provenance import machine  # noqa: E402


def measured(place: Path, given: dict[str, Path], workers: int) -> dict[str, Any]:
    """Grade a class on a cluster of its own; the processor time is that of the whole machine."""
    (lesson,) = select(ROOT, [str(LESSON)])
    whole: dict[str, Any] = {}
    with timed(whole), Loopback(place / "cluster", workers) as cluster:
        found = ours(place / "class", lesson, given, workers, cluster.address)
    return {
        "submissions": len(given),
        "seconds": found["seconds"],
        "core_seconds": whole["core_seconds"],
        "points": found["points"],
    }


def draw(rows: list[dict[str, Any]], cores: int) -> None:
    """Draw throughput against workers, beside what it would be if each worker added the first one's."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from course_lib.figures.style import PALETTE, use_course_style

    use_course_style()
    figure, axes = plt.subplots()
    counts = [row["workers"] for row in rows]
    rates = [row["per_minute"] for row in rows]
    ideal = [rates[0] * count / counts[0] for count in counts]
    axes.plot(
        counts, ideal, color=PALETTE["grey"], linestyle="--", marker="", label="in proportion"
    )
    axes.plot(counts, rates, color=PALETTE["blue"], marker="o", label="measured")
    for count, rate in zip(counts, rates, strict=True):
        axes.annotate(f"{rate:.0f}", (count, rate), textcoords="offset points", xytext=(0, -15))
    axes.set(
        title="Grading on a Dask cluster",
        xlabel=f"workers, of one thread each, on one machine of {cores} cores",
        ylabel="submissions a minute",
        xticks=counts,
        ylim=(0, 1.15 * max(*rates, *ideal)),
    )
    axes.margins(x=0.15)
    axes.legend(loc="upper left")
    figure.savefig(FIGURE, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--small", type=int, default=24)
    parser.add_argument("--large", type=int, default=192)
    parser.add_argument("--notebooks", type=Path, help="where executed notebooks are kept")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    console = Console(width=110)
    (lesson,) = select(ROOT, [str(LESSON)])
    rows: list[dict[str, Any]] = []
    table = Table(title="Lesson 07 on a Dask cluster of this machine")
    for column in ("workers", "a minute", "beside one", "core-seconds each", "start-up and end, s"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        masters = hand_in(options.notebooks or place, lesson, 3)
        marks: dict[str, Any] = {}
        for workers in options.workers or range(1, cores + 1):
            small, large = (
                measured(place / f"{workers}-{size}", class_of(masters, size), workers)
                for size in (options.small, options.large)
            )
            points = large.pop("points")
            small.pop("points")
            marks = marks or points
            if points != marks:
                sys.exit(f"With {workers} workers the marks are others than before.")
            more = large["submissions"] - small["submissions"]
            seconds = (large["seconds"] - small["seconds"]) / more
            row = {
                "workers": workers,
                "per_minute": round(60 / seconds, 1),
                "core_seconds_each": round(
                    (large["core_seconds"] - small["core_seconds"]) / more, 3
                ),
                "start_seconds": round(small["seconds"] - seconds * small["submissions"], 1),
                "small": small,
                "large": large,
            }
            rows.append(row)
            table.add_row(
                str(workers),
                f"{row['per_minute']:.0f}",
                f"{row['per_minute'] / rows[0]['per_minute']:.2f}×",
                f"{row['core_seconds_each']:.2f}",
                f"{row['start_seconds']:.1f}",
            )
    console.print(table)
    record = {
        "command": f"python benchmarks/dask_scaling.py --small {options.small} --large {options.large}",
        "machine": machine(),
        "rows": rows,
    }
    target = HERE / "dask_scaling.json"
    target.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    draw(rows, cores)


if __name__ == "__main__":
    main()
