"""`course pretrain`: makes anew the models that ship with the course."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

MODELS = {  # where each recipe is
    "decoder": ("course_lib.training.causal", "DecoderRecipe"),
    "encoder": ("course_lib.training.masked", "EncoderRecipe"),
    "assistant": ("course_lib.posttraining.assistant", "AssistantRecipe"),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(pretrain)


def pretrain(
    model: Annotated[str, typer.Argument(help="decoder, encoder or assistant.")] = "decoder",
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Train so many steps instead of the recipe's; needs --output."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with the run that was interrupted.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the files; if not given, they replace those that ship."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the shipped files fit the recipe.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Only measure the shipped files again.")
    ] = False,
) -> None:
    """Train the town's base model, measure it, and write its files."""
    from dataclasses import replace

    from course_lib.cli.common import UsageError

    recipe = recipe_of(model)
    if check:
        stale = staleness(model)
        print(stale or f"The shipped {model} is of this recipe and this code.")
        raise typer.Exit(1 if stale else 0)
    if steps is not None and output is None:
        raise UsageError(
            "A model of other steps than the recipe's must not replace the one that ships: "
            "name a folder with --output."
        )
    from course_lib.models.shipped import WEIGHTS
    from course_lib.runtime import choose_device, course_home, describe_device
    from course_lib.training.pretraining import CHECKPOINT, measure_again, put_away
    from course_lib.training.pretraining import pretrain as train

    if measure:
        _print_measured(measure_again(recipe, output or WEIGHTS))
        return
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    chosen = choose_device(device)
    working = course_home() / "pretraining" / model if output is None else output
    print(
        f"{model}: {recipe.steps} steps on {describe_device(chosen)}; checkpoints in {working}",
        flush=True,
    )
    command = f"course pretrain {model}" + (f" --steps {steps}" if steps is not None else "")
    told = {"command": command, **_told(model, recipe, chosen)}
    trained = train(recipe, working, chosen, resume=resume)
    print("Measuring the half-precision weights …", flush=True)
    record = put_away(recipe, trained, output or WEIGHTS, told)
    (working / CHECKPOINT).unlink(missing_ok=True)
    print(f"Written to {output or WEIGHTS} after {record['minutes']} minutes of training:")
    _print_measured(record)


def _print_measured(record: dict[str, Any]) -> None:
    for name, value in record["measured"].items():
        print(f"  {name}: {_shown(value)}")


def recipe_of(model: str) -> Any:
    """Return the recipe of a shipped model.

    Raises:
        UsageError: there is no such model.

    """
    from importlib import import_module

    from course_lib.cli.common import UsageError

    if model not in MODELS:
        raise UsageError(f'There is no model "{model}": use {" or ".join(MODELS)}.')
    module, name = MODELS[model]
    return getattr(import_module(module), name)()


def staleness(model: str) -> str | None:
    """Return what is wrong with a shipped model's record, as a sentence, or None if nothing is.

    The record fits if recipe and text are those that made the weights (the recipe's fields, its first batch), and
    the code: what the recipe's module imports from course_lib.models, course_lib.training and
    course_lib.posttraining, without comments, docstrings and blank lines. Code that is not the same text must
    have the same first losses.

    Raises:
        CourseError: the record is missing.

    """
    import json
    from dataclasses import asdict

    from course_lib.models.shipped import record_of

    record, recipe = record_of(model), recipe_of(model)
    again = f"make it anew with `course pretrain {model}`."
    mine = json.loads(json.dumps(asdict(recipe)))
    if record["recipe"] != mine:
        keys = record["recipe"].keys() | mine.keys()
        other = sorted(key for key in keys if record["recipe"].get(key) != mine.get(key))
        return f"The shipped {model} is of another recipe ({', '.join(other)}): {again}"
    source = source_of(model, recipe)
    if record["source"]["text"] != source["text"]:
        return f"The text that the shipped {model} was trained on has changed since: {again}"
    if "code" in source and record["source"].get("code") == source["code"]:
        return None
    from course_lib.training.pretraining import first_losses

    then = record["first losses"]
    if any(abs(a - b) > 1e-4 for a, b in zip(then, first_losses(recipe, len(then)))):
        return f"The code that made the shipped {model} trains otherwise now: {again}"
    return None


def source_of(model: str, recipe: Any) -> dict[str, str]:
    """Return the hashes of a model's text and code; of the text alone in the students' repository."""
    import hashlib

    batch = recipe.batch(0)
    tensors = batch.values() if isinstance(batch, dict) else batch
    text = hashlib.sha256(b"".join(each.numpy().tobytes() for each in tensors)).hexdigest()
    if not find_spec("course_lib.publishing"):
        return {"text": text}
    from course_lib.publishing.provenance import code_text, imported_modules

    root = Path(__file__).resolve().parents[2]
    modules = imported_modules(f"import {MODELS[model][0]}", root)
    code = hashlib.sha256()
    for name in sorted(modules):
        if name.startswith(("course_lib.models", "course_lib.training", "course_lib.posttraining")):
            lines = code_text(modules[name].read_text(encoding="utf-8"))
            code.update(f"{name}\n{lines}\n".encode())
    return {"text": text, "code": code.hexdigest()}


def _told(model: str, recipe: Any, device: Any) -> dict[str, Any]:
    import datetime

    from course_lib.runtime import describe_device

    told: dict[str, Any] = {"device": describe_device(device), "source": source_of(model, recipe)}
    if find_spec("course_lib.publishing"):
        from course_lib.publishing.provenance import machine

        told["machine"] = machine()
    told["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    return told


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return str(value)
