"""JupyterLab as `course lab` starts it, and one of its notebooks in Chromium, used by keyboard and pointer."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright

from course_lib.cli.lab import lab_command

ROOT = Path(__file__).parents[2]
SECOND = 1000  # Playwright counts in milliseconds
STARTUP_SECONDS = 120
RUN_SECONDS = 600
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """Return where this machine has Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def launch(playwright: Playwright) -> Browser:
    """Start the machine's own Chromium.

    Raises:
        FileNotFoundError: there is none.

    """
    path = find_chromium()
    if path is None:
        raise FileNotFoundError(
            "Chromium is not installed: on Debian and Ubuntu, `sudo apt-get install chromium`."
        )
    return playwright.chromium.launch(executable_path=path, args=list(_FLAGS))


def course_folder(folder: Path, lesson: str) -> Path:
    """Make a course folder that holds a copy of one learner's notebook; return it."""
    (folder / "notebooks").mkdir(parents=True)
    (source,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    shutil.copy(source, folder / "notebooks")
    return folder


@contextmanager
def served(
    folder: Path, lesson: str, scale: str = "smoke", extra: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve a course folder by the command of `course lab`; give the address, which holds the token.

    Everything that Jupyter, IPython and the course keep of their user lies in ``folder``/home.

    Args:
        folder: holds notebooks/.
        lesson: the number of the lesson to open.
        scale: how much the lesson computes.
        extra: more environment variables.

    Raises:
        RuntimeError: the server did not start; the message holds what it said.

    """
    home = folder / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(home),
        "COURSE_HOME": str(home / "course"),
        "COURSE_SCALE": scale,
        "OMP_NUM_THREADS": "1",
        **(extra or {}),
    }
    options = [
        "--no-browser",
        "--port=0",
        "--ip=127.0.0.1",
        "--allow-root",  # in a container the tests may run as root
        "--LabApp.expose_app_in_browser=True",
    ]
    command, environment = lab_command(folder, lesson, options, environment)
    log = folder / "server.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield _address(server, log)
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        said = log.read_text(errors="replace")
        found = re.search(r"http://127\.0\.0\.1:\d+/lab\S*\?token=\w+", said)
        if found:
            return found[0]
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(errors='replace')}")


class NotebookPage:
    """A notebook that is open in JupyterLab.

    Args:
        page: a page of the browser.
        address: as `served` gives it.

    Attributes:
        page: the page.
        errors: what JavaScript threw, as it comes.

    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.errors: list[str] = []
        page.set_default_timeout(30 * SECOND)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        server, rest = address.split("/lab", 1)
        path, _, query = rest.partition("?")
        # A workspace of its own, or JupyterLab opens whatever was open last.
        page.goto(f"{server}/lab/workspaces/test{path}?{query}&reset")
        self.wait_until_idle(STARTUP_SECONDS)

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until the kernel is connected and has nothing to do: a command before that is lost."""
        self.page.wait_for_function(
            """() => {
              const panel = window.jupyterapp?.shell.currentWidget;
              const kernel = panel?.sessionContext?.session?.kernel;
              return kernel?.connectionStatus === 'connected' && kernel.status === 'idle'
                && panel.sessionContext.pendingInput === false && panel.content.widgets.length > 0;
            }""",
            timeout=seconds * SECOND,
        )

    def run_all(self, seconds: float = RUN_SECONDS) -> None:
        """Run all cells by the menu's command, and wait for the last one."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('runmenu:run-all')")
        self.wait_until_idle(seconds)

    def cells(self) -> list[dict]:
        """Return the notebook's cells as the page holds them: sources, outputs, execution counts."""
        return self.page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
        )

    def index(self, cell_id: str) -> int:
        """Return where the cell with this id stands."""
        return [cell["id"] for cell in self.cells()].index(cell_id)

    def id_of(self, text: str) -> str:
        """Return the id of the one code cell whose source holds ``text``."""
        (found,) = (
            cell["id"]
            for cell in self.cells()
            if cell["cell_type"] == "code" and text in "".join(cell["source"])
        )
        return found

    def cell(self, cell_id: str) -> Locator:
        """Return a cell of the page, scrolled into view: JupyterLab draws a cell when it is near."""
        index = self.index(cell_id)
        self.page.evaluate(
            """async (index) => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = index;
              await notebook.scrollToItem(index, 'start');
            }""",
            index,
        )
        cell = self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')
        cell.wait_for()
        return cell

    def write(self, cell_id: str, source: str) -> None:
        """Replace a cell's text by hand: click into it, select all, type."""
        cell = self.cell(cell_id)
        cell.locator(".cm-content").first.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(source)
        self.page.wait_for_function(
            """([index, source]) => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              return notebook.widgets[index].model.sharedModel.getSource() === source;
            }""",
            arg=[self.index(cell_id), source],
        )

    def run(self, cell_id: str) -> Locator:
        """Run one cell by Control+Enter, wait for it, and return it."""
        cell = self.cell(cell_id)
        before = self.cells()[self.index(cell_id)]["execution_count"]
        cell.locator(".cm-content").first.click()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(
            """([index, before]) => {
              const model = window.jupyterapp.shell.currentWidget.content.widgets[index].model;
              return model.executionCount !== null && model.executionCount !== before;
            }""",
            arg=[self.index(cell_id), before],
            timeout=60 * SECOND,
        )
        self.wait_until_idle(60)
        return cell
