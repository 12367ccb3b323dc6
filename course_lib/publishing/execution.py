"""Runs notebooks in a clean environment, and tells in a sentence what went wrong in one."""

import copy
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nbformat.notebooknode import NotebookNode

from course_lib.runtime import CourseError

WIDGET = "application/vnd.jupyter.widget-view+json"
# A kernel's greeting about its transport says nothing to the user of this command.
KERNEL_ARGUMENTS = ["--IPKernelApp.log_level=40"]
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_BAR = re.compile(r"\d+%\|.*\||\[\d\d:\d\d[,<]")
# What one run must not inherit from the user's shell; where data lies is theirs to say.
_KEPT = {"COURSE_DATA_DIR"}


@dataclass(frozen=True)
class CellError:
    """The error that stopped a notebook.

    Attributes:
        cell: the cell's id.
        line: the line of the cell, from 1, where it is known.
        name: the exception's class.
        message: its first line.

    """

    cell: str
    line: int | None
    name: str
    message: str

    def __str__(self) -> str:
        where = f'cell "{self.cell}"' + (f", line {self.line}" if self.line else "")
        return f"{where}: {self.name}: {self.message}" if self.message else f"{where}: {self.name}"


@contextmanager
def environment(**settings: str) -> Iterator[None]:
    """Give kernels that start inside this block these variables, and no others of the course's.

    The learner's progress is kept in a folder that is thrown away, unless COURSE_HOME is set here.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="course-") as home:
        for name in list(os.environ):
            if (name.startswith("COURSE_") and name not in _KEPT) or name == "NBGRADER_EXECUTION":
                del os.environ[name]
        os.environ.update({"COURSE_HOME": home, **settings})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def execute(
    notebook: NotebookNode,
    cwd: Path,
    on_cell: Callable[[], None] = lambda: None,
) -> None:
    """Run a notebook in place from the folder ``cwd`` and clean what it shows.

    Args:
        notebook: gets outputs and execution counts.
        cwd: where its kernel runs.
        on_cell: called after each cell.

    Raises:
        CourseError: a cell failed, or there is no Python kernel.

    """
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    metadata = copy.deepcopy(notebook.metadata)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=KERNEL_ARGUMENTS,
        resources={"metadata": {"path": str(cwd)}},
        on_cell_executed=lambda **_: on_cell(),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        found = first_error(notebook)
        raise CourseError(str(found) if found else str(error).strip().splitlines()[-1]) from None
    except DeadKernelError as error:
        raise CourseError(
            "the kernel died while the notebook ran: is there enough memory? (`course doctor` says)"
        ) from error
    except NoSuchKernel as error:
        raise CourseError(
            'there is no Jupyter kernel called "python3": run `make install`, or `course doctor`.'
        ) from error
    # nbclient adds the kernel's versions and the widgets' state, which differ from run to run.
    notebook.metadata = metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            merged = _merged(cell.outputs)
            cell.outputs = [kept for output in merged if (kept := _cleaned(output))]


def first_error(notebook: NotebookNode) -> CellError | None:
    """Return the first error that a notebook's outputs hold."""
    for position, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = _ANSI.sub("", "\n".join(output.get("traceback", [])))
                lines = re.findall(r"Cell In\[\d+\], line (\d+)", trace)
                return CellError(
                    cell.get("id", f"cell {position}"),
                    int(lines[0]) if lines else None,
                    output.ename,
                    (str(output.evalue).strip().splitlines() or [""])[0],
                )
    return None


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return a notebook's code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: where a kernel cuts it is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _cleaned(output: NotebookNode) -> NotebookNode | None:
    """Return the output without what changes from run to run and shows nothing on a page, or None."""
    output.pop("transient", None)
    if output.output_type == "stream":
        # A progress bar overwrites its line; of such a line the last state counts, if it is not the bar.
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output.text.split("\n")]
        output.text = "\n".join(line for line in lines if not _BAR.search(line))
        return output if output.text.strip() else None
    data = output.get("data", {})
    if WIDGET in data:
        # A live view names models of a kernel that is gone; a static picture beside it stays.
        del data[WIDGET]
        if set(data) <= {"text/plain"}:
            return None
    return output
