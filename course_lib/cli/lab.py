"""`course lab`: opens JupyterLab on a lesson."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli.common import UsageError, course_root

# Defaults of JupyterLab for this course (no pop-up that asks for news), as a folder of Jupyter's
# configuration path, so that nothing is written into the user's own settings.
DEFAULTS = Path(__file__).parent / "jupyter"


def register(app: typer.Typer) -> None:
    """Add the command; what it does not know goes to JupyterLab."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(lab)


def lab(
    context: typer.Context,
    lesson: Annotated[str, typer.Argument(metavar="[NN]", help="The lesson to open.")] = "00",
) -> None:
    """Open JupyterLab on a lesson; other options, such as --no-browser or --port, go to JupyterLab."""
    extra = list(context.args)
    if lesson.startswith("-"):
        extra.insert(0, lesson)
        lesson = "00"
    if os.name == "posix" and os.geteuid() == 0 and "--allow-root" not in extra:
        raise UsageError(
            "JupyterLab does not like to run as root: use an ordinary account, or allow it with "
            'make lab LAB="--allow-root" (course lab --allow-root).'
        )
    command, environment = lab_command(course_root(), lesson, extra, os.environ)
    raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def lab_command(
    root: Path, lesson: str, extra: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command that opens JupyterLab, and its environment.

    Args:
        root: the course folder.
        lesson: its number ("07" or "7") or name.
        extra: options for JupyterLab.
        environment: what the variables are now.

    Raises:
        UsageError: there is no such lesson.

    """
    notebook = find_notebook(root, lesson)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/notebooks/{notebook.name}",
        *extra,
    ]
    path = os.pathsep.join(filter(None, [str(DEFAULTS), environment.get("JUPYTER_CONFIG_PATH")]))
    # What a notebook or nbgrader calls by its bare name (`!course status`, alembic) is this environment's.
    programs = os.pathsep.join(
        filter(None, [str(Path(sys.executable).parent), environment.get("PATH")])
    )
    # The kernel "python3" must be this environment's too, whatever the user has installed elsewhere.
    return command, {
        **environment,
        "PATH": programs,
        "JUPYTER_CONFIG_PATH": path,
        "JUPYTER_PREFER_ENV_PATH": "1",
    }


def find_notebook(root: Path, lesson: str) -> Path:
    """Return the learner's notebook of a lesson.

    Raises:
        UsageError: there is none.

    """
    folder = root / "notebooks"
    notebooks = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    for path in notebooks:
        if path.stem == lesson or (lesson.isdigit() and int(path.name[:2]) == int(lesson)):
            return path
    have = ", ".join(path.name[:2] for path in notebooks) or "none"
    raise UsageError(f'There is no lesson "{lesson}" in {folder}: it has {have}.')


def main() -> None:
    """Run `course lab` with the arguments of this process."""
    from course_lib.cli import main as course

    sys.argv[1:1] = ["lab"]
    course()
