"""Times the newcomer's way: from a clean clone and `make lab` to the first cell that has run in JupyterLab.

    python benchmarks/first_cell.py

Clones this repository, runs `make lab` there (which makes the environment and installs), opens the page that
it names in Chromium, runs the first three cells of lesson 00, and prints the minutes.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from lab_in_browser import NotebookPage, launch  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

OPTIONS = "--no-browser --port=0 --ip=127.0.0.1 --allow-root --LabApp.expose_app_in_browser=True"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/lab\S*\?token=\w+")


def main() -> None:
    """Clone, make, open, run."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "course"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        environment = {**os.environ, "COURSE_HOME": f"{folder}/home"}
        begin = time.perf_counter()
        lab = subprocess.Popen(
            ["make", "lab", f"LAB={OPTIONS}"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert lab.stdout is not None
        try:
            address = next(found[0] for line in lab.stdout if (found := ADDRESS.search(line)))
            served = time.perf_counter()
            with sync_playwright() as playwright:
                browser = launch(playwright)
                notebook = NotebookPage(browser.new_page(), address)
                for _ in range(3):  # title, parameters, setup
                    notebook.page.evaluate(
                        "() => window.jupyterapp.commands.execute('notebook:run-cell-and-select-next')"
                    )
                notebook.wait_until_idle(60)
                first = time.perf_counter()
                (said,) = [
                    "".join(output.get("text", ""))
                    for cell in notebook.cells()
                    if cell["id"] == "setup"
                    for output in cell["outputs"]
                ]
                browser.close()
        finally:
            lab.terminate()
            lab.wait()
    print(said.strip())
    print(f"make lab, until JupyterLab serves: {(served - begin) / 60:.1f} minutes")
    print(f"until the first cell has run:      {(first - begin) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
