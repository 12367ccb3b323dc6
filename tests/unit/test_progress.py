"""The learner's progress survives what files suffer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from course_lib.exercises import progress


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(progress, "_warned", False)
    return tmp_path / "home"


def test_nothing_is_recorded_at_first() -> None:
    assert progress.read() == {}


def test_facts_add_up(home: Path) -> None:
    entry = progress.record(7, "attention", status="failed", attempts=1)
    assert entry["when"].endswith("+00:00")
    progress.record(7, "attention", hints=2)
    progress.record(0, "softmax", status="passed")
    found = progress.read()
    assert set(found) == {"07/attention", "00/softmax"}
    assert found["07/attention"].items() >= {"status": "failed", "attempts": 1, "hints": 2}.items()
    assert progress.progress_file() == home / "progress.json"
    assert json.loads((home / "progress.json").read_text(encoding="utf-8")) == found
    assert [path.name for path in home.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe\x00\x81", b"\x00" * 50, b"[" * 100_000]
)
def test_a_damaged_file_is_set_aside(
    home: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    home.mkdir()
    (home / "progress.json").write_bytes(content)
    assert progress.read() == {}
    assert (home / "progress.json.damaged").read_bytes() == content
    assert not (home / "progress.json").exists()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "progress.json.damaged" in printed
    progress.record(7, "attention", status="passed")
    assert progress.read()["07/attention"]["status"] == "passed"


def test_entries_of_another_form_are_left_out(home: Path) -> None:
    home.mkdir()
    (home / "progress.json").write_text('{"07/attention": {"status": "passed"}, "x": 3, "y": []}')
    assert progress.read() == {"07/attention": {"status": "passed"}}


def test_a_home_that_cannot_be_written_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for _ in range(3):
        entry = progress.record(7, "attention", status="passed")
        assert entry["status"] == "passed"
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "set COURSE_HOME" in printed


def test_a_full_disk_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    progress.record(7, "attention", status="failed")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for _ in range(2):
        progress.record(7, "attention", status="passed")
    assert capsys.readouterr().out == (
        "Your progress could not be saved (No space left on device): the lesson goes on without.\n"
    )
    assert progress.read()["07/attention"]["status"] == "failed"
    assert [path.name for path in home.iterdir()] == ["progress.json"]
