"""`course run`: runs notebooks through papermill and reports how it went."""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat.notebooknode import NotebookNode

from course_lib.publishing.execution import KERNEL_ARGUMENTS, CellError, environment, first_error
from course_lib.runtime import CourseError


@dataclass(frozen=True)
class Report:
    """How one notebook ran.

    Attributes:
        name: the lesson's name.
        cells: how many code cells it has.
        done: how many of them ran without error.
        seconds: from the start of the kernel to the end.
        error: what stopped it, or None.
        claims: what its claims measured, one dictionary for each call of `claim`.

    """

    name: str
    cells: int
    done: int
    seconds: float
    error: CellError | None
    claims: tuple[dict[str, Any], ...]

    @property
    def failed_claims(self) -> list[dict[str, Any]]:
        """The claims that were judged and do not hold, or that a broken variant keeps too."""
        return [each for each in self.claims if each["judged"] and not _good(each)]

    @property
    def passed(self) -> bool:
        """Whether every cell ran and every judged claim holds."""
        return self.error is None and not self.failed_claims


def run_notebook(
    notebook: NotebookNode,
    name: str,
    cwd: Path,
    *,
    parameters: Mapping[str, object] | None = None,
    output: Path | None = None,
    settings: Mapping[str, str] | None = None,
    on_cell: Callable[[], None] = lambda: None,
) -> Report:
    """Run a notebook from its first cell to its last, or to its first error.

    Args:
        notebook: is not changed.
        name: what the report calls it.
        cwd: where its kernel runs.
        parameters: override the values of the cell tagged "parameters" (SEED, SCALE, DEVICE, DATASET).
        output: where the executed notebook is written, if anywhere.
        settings: environment variables of the kernel.
        on_cell: called after each cell.

    Raises:
        CourseError: the output cannot be written, or there is no kernel.

    """
    import nbformat

    # papermill greets the user with log lines and warnings of its own; the report says it all.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    with tempfile.TemporaryDirectory(prefix="course-run-") as scratch:
        folder = Path(scratch)
        given, executed = folder / f"{name}.ipynb", folder / f"{name}.out.ipynb"
        claims = folder / "claims.jsonl"
        nbformat.write(notebook, given)
        begin = time.perf_counter()
        error: CellError | None = None
        try:
            with environment(COURSE_CLAIMS_FILE=str(claims), **(settings or {})):
                papermill.execute_notebook(
                    given,
                    executed,
                    parameters=dict(parameters or {}),
                    cwd=cwd,
                    progress_bar=False,
                    kernel_name="python3",
                    extra_arguments=KERNEL_ARGUMENTS,
                    on_cell_executed=lambda **_: on_cell(),
                )
        except PapermillExecutionError:
            pass  # it is in the notebook, which says more
        except NoSuchKernel as missing:
            raise CourseError(
                'There is no Jupyter kernel called "python3": run `make install`, or `course doctor`.'
            ) from missing
        except DeadKernelError:
            error = CellError(
                "?", None, "DeadKernelError", "the kernel died; is there enough memory?"
            )
        seconds = time.perf_counter() - begin
        result = nbformat.read(executed, as_version=4)
        error = first_error(result) or _silent_error(result) or error
        if output is not None:
            _keep(executed, output)
        lines = claims.read_text(encoding="utf-8").splitlines() if claims.exists() else []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    own = {cell.id for cell in code}
    done = sum(
        cell.metadata.papermill.status == "completed" and not cell.metadata.papermill.exception
        for cell in result.cells
        if cell.get("id") in own and cell.metadata.papermill.start_time
    )
    return Report(name, len(code), done, seconds, error, tuple(json.loads(line) for line in lines))


def _silent_error(notebook: NotebookNode) -> CellError | None:
    """Return the cell that failed without an error in its outputs: IPython only prints about a bad magic."""
    for cell in notebook.cells:
        if cell.metadata.get("papermill", {}).get("exception"):
            said = [
                output.text for output in cell.get("outputs", []) if output.get("name") == "stderr"
            ]
            name, _, message = "".join(said).strip().partition(": ")
            return CellError(cell.id, None, name or "Error", message)
    return None


def _good(claim: Mapping[str, Any]) -> bool:
    return bool(claim["holds"]) and not any(each["holds"] for each in claim["breaks"].values())


def _keep(executed: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(executed.read_bytes())
    except OSError as error:
        raise CourseError(
            f"{output} cannot be written ({error.strerror}): choose another folder with -o."
        ) from error
