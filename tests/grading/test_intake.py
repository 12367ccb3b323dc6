"""Submissions as they arrive: folders, flat files, zips, and files that are no notebooks."""

import io
import json
import os
import stat
import struct
import zipfile

import pytest
from submissions import as_bytes, notebook

from course_lib.grading import intake
from course_lib.grading.intake import collect, parse_notebook, students_of
from course_lib.runtime import CourseError

NOTEBOOK = as_bytes(notebook())


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_folder_of_students_and_files_beside_each_other(tmp_path):
    for name in ("anna/07_self_attention.ipynb", "ben/lesson/07.ipynb", "carla.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(NOTEBOOK)
    (tmp_path / "anna/.ipynb_checkpoints").mkdir()
    (tmp_path / "anna/.ipynb_checkpoints/07_self_attention-checkpoint.ipynb").write_bytes(b"old")
    (tmp_path / "anna/notes.txt").write_text("x")
    found = collect([tmp_path], 7)
    assert [each.student for each in found] == ["anna", "ben", "carla"]
    assert all(each.data == NOTEBOOK and not each.problem for each in found)


def test_canvas_names(tmp_path):
    path = zipped(
        tmp_path / "canvas.zip",
        {
            "curieada_12345_67890_07_self_attention.ipynb": NOTEBOOK,
            "noetheremmy_LATE_222_333_07_self_attention-2.ipynb": b"newer",
            "noetheremmy_LATE_222_331_07_self_attention-1.ipynb": b"older",
        },
    )
    ada, emmy = collect([path], 7)
    assert (ada.student, ada.name, ada.lms_id, ada.late) == (
        "curieada_12345",
        "curieada",
        "12345",
        False,
    )
    assert (emmy.lms_id, emmy.late, emmy.data) == ("222", True, b"newer")
    assert ada.submitted is not None


@pytest.mark.parametrize("top", ["", "Attention-07-999/"])
def test_moodle_names(tmp_path, top):
    path = zipped(
        tmp_path / "moodle.zip",
        {
            f"{top}Ada Lovelace_11_assignsubmission_file_/07_self_attention.ipynb": NOTEBOOK,
            f"{top}Émilie du Châtelet_12_assignsubmission_file_/07_self_attention.ipynb": NOTEBOOK,
            f"{top}Émilie du Châtelet_12_assignsubmission_file_/feedback.txt": b"x",
        },
    )
    found = collect([path], 7)
    assert [(each.name, each.lms_id) for each in found] == [
        ("Ada Lovelace", "11"),
        ("Émilie du Châtelet", "12"),
    ]
    assert [each.student for each in found] == ["Ada_Lovelace_11", "Émilie_du_Châtelet_12"]


def test_moodle_flat_names(tmp_path):
    path = tmp_path / "Ada Lovelace_11_assignsubmission_file_07_self_attention.ipynb"
    path.write_bytes(NOTEBOOK)
    assert [(each.name, each.lms_id) for each in collect([path], 7)] == [("Ada Lovelace", "11")]


def test_the_lessons_own_notebook_is_chosen_and_doubt_is_a_problem(tmp_path):
    for name in ("anna/07_self_attention.ipynb", "anna/scratch.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(NOTEBOOK if "07" in name else b"{}")
    assert collect([tmp_path], 7)[0].data == NOTEBOOK
    (tmp_path / "anna/07_second_try.ipynb").write_bytes(b"{}")
    assert "2 notebooks that could be meant" in collect([tmp_path], 7)[0].problem


def test_paths_that_are_nothing_are_one_sentence(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "bad.zip").write_bytes(b"PK not really")
    (tmp_path / "empty").mkdir()
    for path, words in (
        ("none", "does not exist"),
        ("x.txt", "is no folder, notebook"),
        ("bad.zip", "is no zip"),
        ("empty", r"No notebook \(\.ipynb\)"),
    ):
        with pytest.raises(CourseError, match=words):
            collect([tmp_path / path], 7)


def test_zip_traversal_writes_nothing_and_is_a_problem_of_that_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = zipped(
        folder / "t.zip",
        {
            "../../evil/07.ipynb": NOTEBOOK,
            "/etc/evil/07.ipynb": NOTEBOOK,
            "ok/07.ipynb": NOTEBOOK,
        },
    )
    before = sorted(tmp_path.rglob("*"))
    found = {each.student: each for each in collect([path], 7)}
    assert sorted(tmp_path.rglob("*")) == before
    assert not found["ok"].problem
    assert any("leads out of it" in each.problem for each in found.values())
    assert all("/" not in name and ".." not in name for name in found)


def test_zip_bombs_are_read_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MOST_NOTEBOOK_BYTES", 2**20)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("anna/07.ipynb", bytes(64 * 2**20))
        archive.writestr("ben/07.ipynb", NOTEBOOK)
    # the sizes in the central directory lie
    blob = data.getvalue().replace(struct.pack("<I", 64 * 2**20), struct.pack("<I", 100))
    path = tmp_path / "bomb.zip"
    path.write_bytes(blob)
    anna, ben = collect([path], 7)
    assert anna.problem
    assert len(anna.data) <= 2**20
    assert not ben.problem


def test_zip_with_too_many_entries_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(intake, "MOST_ZIP_ENTRIES", 3)
    path = zipped(tmp_path / "many.zip", {f"{i}.ipynb": b"" for i in range(4)})
    with pytest.raises(CourseError, match="more than 3 files"):
        collect([path], 7)


def test_zip_links_and_damaged_entries_are_problems_of_their_file(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("anna/07.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("ben/07.ipynb", NOTEBOOK)
    blob = bytearray(path.read_bytes())
    at = blob.index(NOTEBOOK[:40])
    blob[at] ^= 0xFF
    path.write_bytes(blob)
    anna, ben = collect([path], 7)
    assert "link" in anna.problem
    assert "damaged" in ben.problem


def test_links_pipes_and_folders_are_problems_not_hangs(tmp_path):
    for name in ("anna", "ben", "carla"):
        (tmp_path / name).mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    (tmp_path / "anna/07.ipynb").symlink_to(secret)
    os.mkfifo(tmp_path / "ben/07.ipynb")
    (tmp_path / "carla/07.ipynb").mkdir()
    (tmp_path / "dora.ipynb").write_bytes(NOTEBOOK)
    found = {each.student: each.problem for each in collect([tmp_path], 7)}
    assert "link" in found["anna"]
    assert "regular file" in found["ben"]
    assert "carla" not in found
    assert found["dora"] == ""


@pytest.mark.parametrize(
    "name",
    ["=cmd()", "-rf", "..", "a\nb", "x" * 240, "Ω λ", "<script>alert(1)</script>", "a/b", "CON"],
)
def test_strange_names_become_safe_and_stay_apart(tmp_path, name):
    files = {f"{name}_1_assignsubmission_file_/07.ipynb": NOTEBOOK}
    if "/" not in name:
        files[f"{name}!_1_assignsubmission_file_/07.ipynb"] = NOTEBOOK
    path = zipped(tmp_path / "n.zip", files)
    students = [each.student for each in collect([path], 7)]
    assert len(set(students)) == len(students) == len(files)
    for student in students:
        assert student
        assert student[0] not in "-.="
        assert not set(student) & set("/\\\n<>:\"'|?* ")
        assert len(student) < 120


def test_names_that_differ_in_case_alone_stay_apart(tmp_path):
    path = zipped(tmp_path / "n.zip", {"Anna/07.ipynb": NOTEBOOK, "anna/07.ipynb": NOTEBOOK})
    students = [each.student.casefold() for each in collect([path], 7)]
    assert len(set(students)) == 2


def test_students_of_names_the_unknown(tmp_path):
    (tmp_path / "anna.ipynb").write_bytes(NOTEBOOK)
    found = collect([tmp_path], 7)
    assert students_of(found, ["anna"]) == found
    with pytest.raises(CourseError, match="No submission of zoe"):
        students_of(found, ["zoe"])


# --- what a file holds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"print('hello')", "not JSON"),
        (NOTEBOOK[: len(NOTEBOOK) // 2], "not JSON"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "not text"),
        (b"[1, 2]", "no notebook"),
        (b"{}", "no notebook format"),
        (b'{"nbformat": 5, "cells": []}', "no notebook format"),
        (b'{"nbformat": 4}', "no list of cells"),
        (b'{"nbformat": 4, "cells": [3]}', "a cell that is none"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}', "a cell without text"),
        (b'{"nbformat": 4, "cells": [{"cell_type": 1, "source": ""}]}', "a cell without text"),
        (b"[" * 100_000, "nested too deeply"),
        (json.dumps({"nbformat": 4, "cells": [{}] * 5001}).encode(), "more than 5000 cells"),
        (b" " * (33 * 2**20) + b"{", "larger than 32 MB"),
        (b'{"nbformat": 4, "cells": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_notebook_is_one_sentence(data, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_notebook(data)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_are_tolerated(encoding):
    cells = parse_notebook(NOTEBOOK.decode().replace("self-attention", "Ω").encode(encoding))
    assert len(cells) == len(notebook())


def test_old_notebooks_and_odd_metadata_are_read():
    old = {
        "nbformat": 3,
        "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}],
    }
    assert parse_notebook(json.dumps(old).encode())[0].source == "x = 1\ny = 2"
    odd = {
        "nbformat": 4,
        "cells": [{"cell_type": "code", "source": "\ud800", "metadata": {"tags": 7}}],
    }
    odd["cells"][0]["metadata"] = None
    assert parse_notebook(json.dumps(odd).encode())[0].source == "?"
