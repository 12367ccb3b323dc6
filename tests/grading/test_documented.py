"""docs/grading.md says how its promises are tested, the README what was measured: the tests and figures exist."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists():
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    functions = {
        node.name
        for path in files.values()
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
    }
    named = set(re.findall(r"`(?:tests/\S*/)?(test_\w+(?:\.py|…)?)`", TEXT))
    assert len(named) > 40
    lacking = [
        name
        for name in named - files.keys() - functions
        if not (name.endswith("…") and any(each.startswith(name[:-1]) for each in functions))
    ]
    assert lacking == []


def test_every_section_that_is_linked_exists():
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_the_readme_has_the_table_that_was_measured():
    measured = json.loads((ROOT / "benchmarks" / "hostile.json").read_text())["families"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## What the grader was handed")[1].split("## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", table, re.MULTILINE)
    assert {family: [*map(int, counts)] for family, *counts in rows} == {
        family: list(row.values()) for family, row in measured.items()
    }
    assert measured["all"]["submissions"] > 300
    assert not any(measured["all"][kind] for kind in ("fooled", "harsh", "crashed"))
