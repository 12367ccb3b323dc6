"""Times what every lesson imports first beside `import torch` alone, each in a fresh process.

    python benchmarks/imports.py [--repeats 7]

Prints medians and their ratio.
"""

import argparse
import statistics
import subprocess
import sys

TORCH = "import torch"
PICTURES = "import matplotlib.pyplot, ipywidgets, IPython.display"
CORE = (
    "import torch\n"
    "from course_lib.exercises import check, claim, hint, predict\n"
    "from course_lib.runtime import start"
)
ALL = f"{CORE}\nfrom course_lib import figures, widgets"


def seconds(code: str) -> float:
    """Return how long ``code`` takes in a new Python, which has started already."""
    timed = f"import time\nbegin = time.perf_counter()\n{code}\nprint(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Alternate them, so that a busy moment of the machine strikes all alike."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    codes = {
        "torch": TORCH,
        "torch, course_lib's runtime and exercises": CORE,
        "torch, matplotlib, ipywidgets": f"{TORCH}\n{PICTURES}",
        "these and all of course_lib": f"{ALL}\n{PICTURES}",
    }
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(repeats + 1):  # the first round fills the disk's cache and is left out
        for name, code in codes.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(each[1:]) for name, each in times.items()}
    for name, median in medians.items():
        print(f"{name:<44}{median:6.2f} s   {median / medians['torch']:.2f} × torch")


if __name__ == "__main__":
    main()
