"""docs/grading.md says how each promise is tested: the tests that it names exist."""

import ast
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
