"""The `course` command."""

import sys
from importlib.util import find_spec

import typer

from course_lib.cli import data, doctor, lab, pretrain, status
from course_lib.cli.common import is_for_user

app = typer.Typer(
    name="course",
    help="A course on transformers: learn it, check it, grade it, maintain it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (lab, status, doctor, data, pretrain):
    module.register(app)
# The students' repository has neither of these.
if find_spec("course_lib.cli.grade"):
    from course_lib.cli import grade

    grade.register(app)
if find_spec("course_lib.cli.publish"):
    from course_lib.cli import publish

    publish.register(app)


def main() -> None:
    """Run the command line; an error that a user can act on is one line and exit status 2."""
    try:
        app()
    except Exception as error:
        if not is_for_user(error):
            raise
        print(f"course: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("course: interrupted.", file=sys.stderr)
        sys.exit(130)
