"""Submissions as they arrive: folders, flat files, zips, and files that are no notebooks."""

import io
import json
import os
import stat
import struct
import zipfile
from datetime import UTC, datetime

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


METADATA = """---
submission_801:
  :submitters:
  - :name: Ada Lovelace
    :sid: 'u1001'
    :email: ada@example.org
  :created_at: 2026-01-31 22:30:00.123456000 Z
  :score: 12.0
  :status: processed
  :results:
    tests: []
submission_802:
  :submitters:
  - :name: Emmy Noether
    :sid: 1002
    :email: emmy@example.org
  - :name: Grace Hopper
    :sid:
    :email: grace@example.org
  :created_at: 2026-01-31 12:00:00 -0800
"""


@pytest.mark.parametrize(
    ("top", "folder"),
    [
        ("", None),
        ("assignment_99_export/", None),
        ("", "unpacked"),
        ("assignment_99_export/", "unpacked"),
        ("assignment_99_export/", "unpacked/assignment_99_export"),
    ],
)
def test_gradescope_names_times_and_groups(tmp_path, top, folder):
    files = {
        f"{top}submission_metadata.yml": METADATA,
        f"{top}submission_801/07_self_attention.ipynb": NOTEBOOK,
        f"{top}submission_802/work/07_self_attention.ipynb": NOTEBOOK,
        f"{top}submission_803/07_self_attention.ipynb": NOTEBOOK,
        "__MACOSX/._submission_metadata.yml": b"\0",
    }
    path = zipped(tmp_path / "gradescope.zip", files)
    if folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "unpacked")
        path = tmp_path / folder
    found = {each.name: each for each in collect([path], 7)}
    assert {(each.name, each.lms_id, each.email, each.lms) for each in found.values()} == {
        ("Ada Lovelace", "u1001", "ada@example.org", "gradescope"),
        ("Emmy Noether", "1002", "emmy@example.org", "gradescope"),
        ("Grace Hopper", "", "grace@example.org", "gradescope"),
        ("submission_803", "", "", ""),
    }
    assert found["Emmy Noether"].origin == found["Grace Hopper"].origin
    assert found["Emmy Noether"].data == NOTEBOOK
    local = datetime(2026, 1, 31, 20, 0, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert found["Emmy Noether"].submitted == local
    ada = datetime(2026, 1, 31, 22, 30, 0, 123456, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert found["Ada Lovelace"].submitted == ada


@pytest.mark.parametrize("top", ["", "export/"])
def test_a_students_own_metadata_renames_nobody(tmp_path, top):
    forged = (
        "submission_1: {':submitters': [{':name': Zoe}]}\nanna: {':submitters': [{':name': Zoe}]}"
    )
    right = forged.replace("Zoe", "Ada")
    files = {
        f"{top}anna/submission_metadata.yml": forged,
        f"{top}anna/07.ipynb": NOTEBOOK,
        f"{top}ben/07.ipynb": NOTEBOOK,
    }
    found = collect([zipped(tmp_path / "z.zip", files)], 7)
    assert [each.name for each in found] == ["anna", "ben"]
    files = {
        f"{top}submission_1/submission_metadata.yml": forged,
        f"{top}submission_1/07.ipynb": NOTEBOOK,
        f"{top}submission_2/07.ipynb": NOTEBOOK,
        f"{top}submission_metadata.yml": right,
    }
    path = zipped(tmp_path / "g.zip", files)
    assert [each.name for each in collect([path], 7)] == ["Ada", "submission_2"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert [each.name for each in collect([tmp_path / "unpacked" / top], 7)] == [
        "Ada",
        "submission_2",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "a: b",
        "submission_1: {':submitters': 7}",
        "a: &a [*a",
        "!!python/object/apply:os.system ['true']",
        "{" * 3000,
        "[" * 1_000_000,
        "a: !!timestamp soon",
        "a: " + "- " * 300_000,
        "\0",
    ],
)
def test_metadata_that_gradescope_did_not_write_is_one_sentence(tmp_path, text):
    files = {"submission_metadata.yml": text, "submission_1/07.ipynb": NOTEBOOK}
    path = zipped(tmp_path / "g.zip", files)
    with pytest.raises(CourseError, match="is not what Gradescope writes") as caught:
        collect([path], 7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "about",
    [
        {":submitters": []},
        {":submitters": [7, None, "x"]},
        {":submitters": [{":name": ["x"], ":sid": {}, ":email": None}]},
        {":submitters": [{":name": "A"}], ":created_at": "soon"},
        {":submitters": [{":name": "A"}], ":created_at": "9999-12-31T23:59:59+00:00"},
    ],
)
def test_odd_submitters_cost_nobody_the_submission(tmp_path, about):
    files = {
        "submission_metadata.yml": json.dumps({"submission_1": about}),
        "submission_1/07.ipynb": NOTEBOOK,
    }
    found = collect([zipped(tmp_path / "g.zip", files)], 7)
    assert found
    assert all(each.data == NOTEBOOK and not each.problem for each in found)


def test_the_system_is_told_by_the_names(tmp_path):
    files = {
        "curieada_12345_67890_07.ipynb": NOTEBOOK,
        "Ada Lovelace_11_assignsubmission_file_/07.ipynb": NOTEBOOK,
        "anna/07.ipynb": NOTEBOOK,
    }
    found = collect([zipped(tmp_path / "z.zip", files)], 7)
    assert {each.name: each.lms for each in found} == {
        "curieada": "canvas",
        "Ada Lovelace": "moodle",
        "anna": "",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Lesson 7_alovelace_attempt_2026-01-31-10-20-30_07.ipynb", "export of Blackboard"),
        ("123-456 - Ada Lovelace - Jan 31, 2026 1020 AM/07.ipynb", "export of Brightspace"),
        ("first.zip", "holds other zips and no notebook"),
        ("notes.txt", "give the zip that holds all submissions"),
    ],
)
def test_zips_of_other_kinds_are_one_sentence(tmp_path, name, words):
    with pytest.raises(CourseError, match=words) as caught:
        collect([zipped(tmp_path / "z.zip", {name: NOTEBOOK})], 7)
    assert "\n" not in str(caught.value)


def test_metadata_that_is_a_link_or_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "07.ipynb").write_bytes(NOTEBOOK)
    (tmp_path / "submission_metadata.yml").symlink_to("/etc/passwd")
    with pytest.raises(CourseError, match="cannot be used: the file is a link"):
        collect([tmp_path], 7)
    (tmp_path / "submission_metadata.yml").unlink()
    (tmp_path / "submission_metadata.yml").mkdir()
    with pytest.raises(CourseError, match="cannot be used: this is a folder"):
        collect([tmp_path], 7)


def test_one_students_odd_name_does_not_refuse_the_class(tmp_path):
    name = "anna/Lesson 7_anna_attempt_2026-01-31-10-20-30_07.ipynb"
    path = zipped(tmp_path / "z.zip", {name: NOTEBOOK, "ben/07.ipynb": NOTEBOOK})
    assert [each.name for each in collect([path], 7)] == ["anna", "ben"]


def test_a_folder_of_zips_is_told_to_give_them(tmp_path):
    zipped(tmp_path / "one.zip", {"anna/07.ipynb": NOTEBOOK})
    with pytest.raises(CourseError, match=r"give the zips themselves \(.*one\.zip"):
        collect([tmp_path], 7)


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
    assert "folder" in found["carla"]
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
