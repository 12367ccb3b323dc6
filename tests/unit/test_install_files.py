"""pyproject.toml, constraints.txt, environment.yml and what is installed say the same."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def pins() -> dict[str, Version]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^;\s]+)(?:\s*;.*)?", text)
            assert match, f"constraints.txt holds a line that pins nothing exactly: {line}"
            assert canonicalize_name(match[1]) not in found, f"{match[1]} is pinned twice"
            found[canonicalize_name(match[1])] = Version(match[2])
    return found


PINS = pins()
REQUIREMENTS = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
    if not text.startswith(PROJECT["name"])
]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda each: each.name)
def test_every_requirement_is_pinned_inside_its_range(requirement):
    name = canonicalize_name(requirement.name)
    assert name in PINS
    assert requirement.specifier.contains(PINS[name], prereleases=True)
    assert any(each.operator in {"<", "==", "~="} for each in requirement.specifier), (
        "an open range"
    )


def test_torch_is_one_release():
    assert PINS["torch"] == Version("2.13.0")


def test_what_is_installed_is_what_is_pinned():
    wrong = {}
    for name, pin in PINS.items():
        try:
            installed = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue  # pinned for another system; the next test holds what is required here
        # +cpu and the like name a build of the same release.
        if Version(installed.public) != pin:
            wrong[name] = f"{installed}, pinned {pin}"
    assert wrong == {}


def test_what_is_required_is_installed():
    for requirement in REQUIREMENTS:
        assert importlib.metadata.version(requirement.name)


def test_whatever_the_requirements_need_is_pinned_too():
    """So that an installation next year takes the same set."""
    pending, seen = [each.name for each in REQUIREMENTS], set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in needs:
            needed = Requirement(text)
            if not needed.marker or needed.marker.evaluate({"extra": ""}):
                pending.append(needed.name)
    # pip and its tools come with the environment.
    assert seen - set(PINS) - {"pip", "setuptools", "wheel"} == set()


def test_conda_gives_python_and_the_very_same_installation():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[<>=]", each)[0] for each in conda] == ["python", "pip"]
    python = Version(conda[0].split("=")[-1])
    assert PROJECT["requires-python"] == ">=3.11"
    assert python >= Version("3.11")
    assert [" ".join(line.split()) for line in pip["pip"]] == [
        "--constraint constraints.txt",
        "--editable .",
    ]
    assert "-c constraints.txt" in MAKEFILE
    assert "$(PIP_INSTALL) -e ." in MAKEFILE


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with what `make` reads and no environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def python_that_says(folder: Path, version: str) -> Path:
    """A stand-in for Python: knows its version and whether it is new enough, and makes no environment."""
    path = folder / "python-stand-in"
    old = int(version.split(".")[1]) < 11
    path.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --version) echo Python {version};; -c) exit {int(old)};; -m) exit 1;; esac\n'
    )
    path.chmod(0o755)
    return path


def test_an_old_python_is_one_sentence(fresh):
    done = make("install", f"PYTHON={python_that_says(fresh, '3.9.2')}", folder=fresh)
    assert done.returncode
    assert "is Python 3.9.2, and the course needs 3.11 or newer" in done.stdout
    assert not (fresh / ".venv").exists()


def test_a_missing_python_is_one_sentence(fresh):
    done = make("install", "PYTHON=python-that-is-not-there", folder=fresh)
    assert done.returncode
    assert "There is no python-that-is-not-there: install Python 3.11 or newer" in done.stdout


def test_a_python_without_venv_is_one_sentence(fresh):
    done = make("install", f"PYTHON={python_that_says(fresh, '3.12.1')}", folder=fresh)
    assert done.returncode
    assert "cannot make a virtual environment" in done.stdout
    assert "python3-venv" in done.stdout


def test_a_second_installation_does_nothing_and_a_changed_pin_installs_again(fresh):
    bin_folder = fresh / ".venv/bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(sys.executable)
    dry = make("-n", "install", folder=fresh).stdout
    assert "pip install" in dry
    assert "-c constraints.txt -e ." in dry
    (fresh / ".venv/.installed").touch()
    assert "pip install" not in make("-n", "install", folder=fresh).stdout
    assert "course lab" in make("-n", "lab", folder=fresh).stdout
    (fresh / ".venv/.installed").unlink()
    assert "pip install" in make("-n", "install", folder=fresh).stdout


def test_make_test_runs_what_the_project_is_held_to():
    commands = make("-n", "test").stdout
    for command in ("ruff check", "mypy", "lint-imports", "pytest -n 2 --dist loadgroup"):
        assert command in commands
