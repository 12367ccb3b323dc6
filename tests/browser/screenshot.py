"""Takes the README's picture: lesson 07 in JupyterLab, a figure and a check that turned green.

    python tests/browser/screenshot.py

The notebook runs at standard scale with every exercise solved; docs/images/lesson_07.png is written.
"""

import io
import re
import tempfile
from pathlib import Path

from lab_in_browser import ROOT, SECOND, NotebookPage, course_folder, launch, served
from PIL import Image
from playwright.sync_api import sync_playwright

from course_lib.publishing.build import compose_lesson
from course_lib.publishing.lessons import select

TARGET = ROOT / "docs" / "images" / "lesson_07.png"
LARGEST = 250_000  # bytes
VIEW = {"width": 1400, "height": 900}
EXERCISE = "padding_mask"
ABOVE = 33  # how many pixels of the exercise's text stay in sight


def solutions() -> dict[str, str]:
    """Return each exercise's published solution as a learner would write it, by the cell's id."""
    (lesson,) = select(ROOT, ["07"])
    return {
        cell.id: re.sub(
            r"^ *### (BEGIN|END) SOLUTION\n?", "", cell.source, flags=re.MULTILINE
        ).rstrip()
        for cell in compose_lesson(lesson).solution.cells
        if cell.id.startswith("exercise-")
    }


def arrange(notebook: NotebookPage) -> None:
    """Show the exercise, its green check and the figure that follows, whose code is folded away."""
    page = notebook.page
    page.evaluate("() => window.jupyterapp.commands.execute('toc:show-panel')")
    figure = notebook.index(f"check-{EXERCISE}") + 1
    page.evaluate(
        """(index) => {
          const { content } = window.jupyterapp.shell.currentWidget;
          content.widgets[index].inputHidden = true;
          content.activeCellIndex = index;
        }""",
        figure,
    )
    cell = notebook.cell(f"exercise-{EXERCISE}")
    page.wait_for_timeout(2 * SECOND)  # what folds and scrolls comes to rest
    cell.evaluate(
        """(cell, above) => {
          const panel = cell.closest('.jp-WindowedPanel-outer');
          const distance = cell.getBoundingClientRect().top - panel.getBoundingClientRect().top;
          panel.scrollTop += distance - above;
        }""",
        ABOVE,
    )
    page.mouse.move(0, 0)
    page.wait_for_timeout(1 * SECOND)


def small(picture: bytes) -> bytes:
    """Return a PNG with as many colours as fit into the largest size."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        reduced = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(buffer, format="png", optimize=True)
        if buffer.tell() < LARGEST:
            return buffer.getvalue()
    raise SystemExit(f"The picture does not fit into {LARGEST} bytes.")


def main() -> None:
    """Run the lesson, arrange the page, write the picture."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = course_folder(Path(scratch) / "course", "07")
        with served(folder, "07", scale="standard") as address:
            browser = launch(playwright)
            notebook = NotebookPage(browser.new_page(viewport=VIEW), address)
            written = solutions()
            for cell in [each["id"] for each in notebook.cells()]:
                if cell in written:
                    notebook.write(cell, written[cell])
            notebook.run_all()
            arrange(notebook)
            TARGET.parent.mkdir(parents=True, exist_ok=True)
            TARGET.write_bytes(small(notebook.page.screenshot()))
            browser.close()
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
