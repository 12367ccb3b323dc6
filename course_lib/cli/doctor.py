"""`course doctor`: what is wrong with this machine, in words that its user can act on."""

import dataclasses
import json
from typing import Annotated

import typer

_SIGNS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what is wrong with this machine and what to do; exit status 1 if lessons cannot run."""
    from rich.console import Console

    from course_lib.cli.machine import examine, gather

    checks = examine(gather())
    healthy = all(check.status != "fail" for check in checks)
    if as_json:
        content = {"healthy": healthy, "checks": [dataclasses.asdict(check) for check in checks]}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        for check in checks:
            console.print(f"{_SIGNS[check.status]} [bold]{check.name}[/]: ", end="")
            console.print(check.sentence, markup=False, soft_wrap=True)
            for line in check.remedy.splitlines():
                console.print(f"    {line}", markup=False, soft_wrap=True)
        console.print("Lessons run here." if healthy else "Lessons do not run here: see ✗ above.")
    if not healthy:
        raise typer.Exit(1)
