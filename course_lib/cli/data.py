"""`course data`: the public data sets that lessons can use."""

from typing import Annotated, Any

import typer

commands = typer.Typer(
    name="data", help="Public data sets: list, fetch, verify.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(commands)


@commands.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show every data set: size, licence, the lessons that use it, and whether it is here."""
    import json

    from rich.console import Console
    from rich.table import Table

    from course_lib.data import registry

    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "title": each.title,
            "size": each.size,
            "licence": each.licence,
            "lessons": list(each.lessons),
            "here": registry.available(each.name),
        }
        for each in registry.table()
    ]
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table("Name", "Size", "Licence", "Lessons", "Here")
    for row in rows:
        table.add_row(
            row["name"],
            row["size"],
            row["licence"],
            ", ".join(f"{number:02d}" for number in row["lessons"]),
            "[green]yes[/]" if row["here"] else "no",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Folder: {registry.cache_dir()}", markup=False, soft_wrap=True)


@commands.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Data sets, or all.")],
) -> None:
    """Download data sets and check them."""
    from rich.console import Console

    from course_lib.data import registry
    from course_lib.runtime import CourseError

    console = Console(highlight=False)
    failed = []
    for name in _names(names):
        about = registry.dataset(name)
        if about.warning:
            console.print(f"{name}: {about.warning}", markup=False, soft_wrap=True)
        try:
            folder = registry.fetch(name)
        except CourseError as error:
            failed.append(name)
            console.print(str(error), markup=False, soft_wrap=True, style="red")
            continue
        console.print(f"{name}: in {folder} ({about.licence})", markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@commands.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Data sets; all that are here if none is given."),
    ] = None,
) -> None:
    """Compare every file that is here with its published SHA-256."""
    from rich.console import Console

    from course_lib.data import registry

    console = Console(highlight=False)
    bad = 0
    for name in _names(names or ["all"]):
        states = registry.verify(name)
        if not names and all(each.state == "missing" for each in states):
            continue
        wrong = [each for each in states if each.state != "ok"]
        bad += len(wrong)
        console.print(
            f"{name}: {len(states) - len(wrong)} of {len(states)} files are right.", markup=False
        )
        for each in wrong:
            console.print(f"  {each.message}", markup=False, soft_wrap=True)
    if bad:
        raise typer.Exit(1)
    console.print("Nothing is damaged.")


def _names(words: list[str]) -> list[str]:
    from course_lib.data import registry

    if "all" in words:
        return [each.name for each in registry.table()]
    return [registry.dataset(word).name for word in words]
