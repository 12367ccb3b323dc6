"""Running lessons, judging claims over seeds, and keeping records."""

import json
from pathlib import Path

import nbformat
import pytest
from publishing_course import make_course

from course_lib.exercises.records import record, recorded
from course_lib.publishing.claims import faults, judge, measure, save
from course_lib.publishing.lessons import LessonFiles
from course_lib.publishing.notebooks import METADATA
from course_lib.publishing.provenance import code_text, imported_modules, source_hash
from course_lib.publishing.records import record_lesson
from course_lib.publishing.running import run_notebook
from course_lib.publishing.source import read_source
from course_lib.runtime import CourseError

HEAD = '''\
# %% [markdown]
"""
# 03 · Claims
"""

# %% tags=["parameters"]
SEED = 0
SCALE = "standard"
DEVICE = "cpu"
DATASET = "riverbank"

# %% tags=["setup"]
from course_lib.exercises import claim
from course_lib.exercises.records import record, recorded
from course_lib.runtime import start

run = start(lesson=3, seed=SEED, scale=SCALE, device=DEVICE, dataset=DATASET)

'''
CLAIMS = (
    HEAD
    + """\
# %% tags=["claim"]
claim("seeds are small", measured=run.seed + 1, at_most=20, breaks_when={"tripled": 60 + run.seed})
claim("time is short", measured=run.seed, at_most=2.5, timing=True)
"""
)
RECORD = (
    HEAD
    + """\
# %% tags=["record"]
record("squares", [n * n for n in range(3)])
record("seed", run.seed)

# %%
print(recorded("squares"))
"""
)


def line(
    text: str = "a", measured: float = 1.0, bound: object = 0.0, kind: str = "at_least", **more
):
    inside = {"at_least": lambda: measured >= bound, "at_most": lambda: measured <= bound}
    return {
        "claim": text,
        "measured": measured,
        "bound": {"kind": kind, "value": bound},
        "holds": inside.get(kind, lambda: True)(),
        "judged": True,
        "breaks": {},
        "timing": False,
        **more,
    }


# ---- judging


@pytest.mark.parametrize(
    ("measured", "bound", "kind", "margin"),
    [
        ([1.0, 1.2, 1.1], 0.9, "at_least", 2.0),
        ([1.0, 1.2, 1.1], 1.3, "at_most", 2.0),
        ([1.0, 1.2, 1.1], [0.7, 1.5], "between", 4.0),
        ([1.0, 1.2, 1.1], [0.9, 1.6], "between", 2.0),
        ([1.0, 1.0, 1.0], 1.0, "at_least", None),
        ([1.0, 1.0, 1.0], 1.0, "equals", None),
        ([1.0, 1.2, 1.1], [0.7, float("inf")], "between", 4.0),
    ],
)
def test_margin_in_standard_deviations(measured, bound, kind, margin):
    runs = [[line(measured=each, bound=bound, kind=kind)] for each in measured]
    (judged,) = judge("lesson", runs)
    assert judged["margin"] == (pytest.approx(margin, abs=0.01) if margin is not None else None)
    assert judged["verdict"] == "holds"


def test_bounds_that_vary_by_seed_are_compared_pair_by_pair():
    runs = [[line(measured=m, bound=m - 0.5)] for m in (1.0, 9.0)]
    assert judge("lesson", runs)[0]["verdict"] == "holds"


def test_a_bound_too_near_is_refused():
    runs = [[line(measured=m, bound=0.95)] for m in (1.0, 1.2, 1.1)]
    verdict = judge("lesson", runs)[0]["verdict"]
    assert verdict == "its bound is 1.5 standard deviations away, fewer than 2"


def test_timing_claims_need_no_margin():
    runs = [[line(measured=m, bound=0.95, timing=True)] for m in (1.0, 1.2, 1.1)]
    assert judge("lesson", runs)[0]["verdict"] == "holds"


def test_a_claim_that_fails_with_one_seed_is_false():
    runs = [[line(measured=m)] for m in (1.0, -1.0, 1.0)]
    assert judge("lesson", runs)[0]["verdict"] == "it fails with 1 of 3 seeds"


def test_a_broken_variant_that_holds_makes_the_claim_false():
    breaks = [{"reversed": {"measured": m, "holds": m >= 0}} for m in (-1.0, 1.0)]
    runs = [[line(breaks=each)] for each in breaks]
    assert judge("lesson", runs)[0]["verdict"] == 'it also holds for the broken variant "reversed"'


def test_claims_that_share_a_text_or_come_and_go_are_refused():
    with pytest.raises(CourseError, match='two claims say "a"'):
        judge("lesson", [[line(), line()]])
    with pytest.raises(CourseError, match='"b" is made with some seeds only'):
        judge("lesson", [[line(), line("b")], [line()]])


# ---- measuring, and the record


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[LessonFiles, dict]:
    files = make_course(tmp_path_factory.mktemp("course"), CLAIMS, "03_claims")
    return files, measure(files, 2, {})


def test_measure_runs_every_seed_at_standard_scale(measured):
    _, kept = measured
    assert kept["seeds"] == [0, 1]
    assert kept["scale"] == "standard"
    small, short = kept["claims"]
    assert small["measured"] == [1.0, 2.0]
    assert small["breaks"]["tripled"] == {"measured": [60.0, 61.0], "holds": [False, False]}
    assert small["verdict"] == "holds"
    assert (short["timing"], short["verdict"]) == (True, "holds")
    assert {"cpu", "cores", "torch", "python", "threads"} <= set(kept["machine"])
    assert len(kept["source"]) == 64


def test_check_accepts_a_fresh_record_and_names_what_is_wrong(measured):
    files, kept = measured
    assert "is missing" in faults(files, {})[0]
    save(files, kept)
    assert faults(files, {}) == []

    text = files.source.read_text(encoding="utf-8")
    files.source.write_text(text.replace("# 03 · Claims", "# 03 · Other words"), encoding="utf-8")
    assert faults(files, {}) == []
    files.source.write_text(text.replace("at_most=20", "at_most=21"), encoding="utf-8")
    assert "is stale" in faults(files, {})[0]
    files.source.write_text(text, encoding="utf-8")

    false = json.loads(json.dumps(kept))
    false["claims"][0]["verdict"] = "it fails with 1 of 2 seeds"
    save(files, false)
    assert faults(files, {}) == [
        'solutions/03_claims.claims.json: the claim "seeds are small" is false: it fails with 1 of 2 seeds.'
    ]
    save(files, {**kept, "scale": "smoke"})
    assert "not made at standard scale" in faults(files, {})[0]
    save(files, {"source": kept["source"]})
    assert "is not a record of claims" in faults(files, {})[0]
    files.claims.write_text("{")
    assert "cannot be read as JSON" in faults(files, {})[0]


def test_a_lesson_without_claims_needs_no_record(tmp_path):
    assert (
        faults(make_course(tmp_path, HEAD.replace("import claim", "import check"), "03_none"), {})
        == []
    )


def test_one_seed_is_refused(tmp_path):
    with pytest.raises(CourseError, match="use 2 or more"):
        measure(make_course(tmp_path, CLAIMS, "03_claims"), 1, {})


# ---- what a hash covers


def test_hash_covers_imports_of_imports_and_not_prose(tmp_path):
    files = make_course(tmp_path, CLAIMS + "\n# %%\nfrom course_lib.models import a\n", "03_claims")
    package = tmp_path / "course_lib"
    (package / "models/__init__.py").write_text("")
    (package / "models/a.py").write_text("from course_lib.models.b import x\n")
    (package / "models/b.py").write_text("x = 1\n")
    (package / "models/c.py").write_text("y = 1\n")

    def now() -> str:
        return source_hash(read_source(files, {}))

    first = now()
    (package / "models/c.py").write_text("y = 2\n")
    (package / "models/b.py").write_text('"""A docstring."""\n\n# A comment.\nx = 1  # another\n')
    files.source.write_text(
        files.source.read_text(encoding="utf-8").replace("# 03 · Claims", "# 03 · Prose"),
        encoding="utf-8",
    )
    assert now() == first
    (package / "models/b.py").write_text("x = 2\n")
    second = now()
    assert second != first
    files.records.write_text("{}")
    assert now() != second
    found = imported_modules(files.source.read_text(encoding="utf-8"), tmp_path)
    assert {"course_lib.models", "course_lib.models.a", "course_lib.models.b"} <= set(found)
    assert "course_lib.models.c" not in found


def test_code_text_keeps_strings_that_are_not_docstrings():
    source = (
        'x = "# no comment"  # comment\n\n\ndef f():\n    """Doc."""\n    return """a\n    b"""\n'
    )
    assert code_text(source) == 'x = "# no comment"\ndef f():\n    return """a\n    b"""'


# ---- running


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_code_cell(
            source, id=f"cell-{n}", metadata={"tags": ["parameters"]} if not n else {}
        )
        for n, source in enumerate(sources)
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def test_run_reports_parameters_claims_and_cells(tmp_path):
    notebook = notebook_of(
        'SEED = 0\nSCALE = "standard"',
        "from course_lib.runtime import start\nrun = start(lesson=3, seed=SEED, scale=SCALE)",
        "from course_lib.exercises import claim\n"
        'claim("high", measured=run.seed, at_least=3)\nclaim("low", measured=run.seed, at_most=3)',
    )
    seen = []
    report = run_notebook(
        notebook,
        "03_x",
        tmp_path,
        parameters={"SEED": 4},
        output=tmp_path / "out/03_x.ipynb",
        on_cell=lambda: seen.append(1),
    )
    assert report.error is None
    assert (report.cells, report.done) == (3, 3)
    assert len(seen) >= 3
    assert [claim["measured"] for claim in report.claims] == [4, 4]
    assert [claim["claim"] for claim in report.failed_claims] == ["low"]
    assert not report.passed
    assert "seed 4" in (tmp_path / "out/03_x.ipynb").read_text()


def test_run_reports_the_first_error_with_cell_and_line(tmp_path):
    report = run_notebook(
        notebook_of("SEED = 0", "a = 1\n\nb = a / 0", "print('not reached')"), "03_x", tmp_path
    )
    assert report.error is not None
    assert str(report.error) == 'cell "cell-1", line 3: ZeroDivisionError: division by zero'
    assert (report.cells, report.done) == (3, 1)
    assert not report.passed


def test_run_finds_a_magic_that_does_not_exist(tmp_path):
    # IPython prints about it and shows no error, so papermill alone would call the notebook good.
    report = run_notebook(notebook_of("SEED = 0", "%nosuchmagic\nx = 1", "x = 2"), "03_x", tmp_path)
    assert report.error is not None
    assert str(report.error).startswith(
        'cell "cell-1": UsageError: Line magic function `%nosuchmagic`'
    )
    assert not report.passed


def test_run_survives_a_kernel_that_dies(tmp_path):
    report = run_notebook(notebook_of("SEED = 0", "import os\nos._exit(1)"), "03_x", tmp_path)
    assert report.error is not None
    assert "kernel died" in str(report.error)


# ---- records


def test_record_lesson_keeps_what_its_cells_found(tmp_path):
    files = make_course(tmp_path, RECORD, "03_record")
    content = record_lesson(files, scale="smoke", seed=5, points={})
    assert content["values"] == {"squares": [0, 1, 4], "seed": 5}
    assert content["command"] == "course record 03 --scale smoke --seed 5"
    assert json.loads(files.records.read_text(encoding="utf-8")) == content
    assert '"squares": [0, 1, 4]' in files.records.read_text(encoding="utf-8")


def test_record_of_a_lesson_without_any(tmp_path):
    with pytest.raises(CourseError, match="has nothing to record"):
        record_lesson(make_course(tmp_path, CLAIMS, "03_claims"), points={})
    silent = make_course(tmp_path, HEAD + '# %% tags=["record"]\nx = 1\n', "03_silent")
    with pytest.raises(CourseError, match="never called record"):
        record_lesson(silent, points={})


def test_recorded_reads_beside_the_sources_and_beside_the_notebooks(tmp_path, monkeypatch):
    import course_lib

    (tmp_path / "course_lib").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(course_lib, "__file__", str(tmp_path / "course_lib/__init__.py"))
    with pytest.raises(CourseError, match='no record "x" of lesson 03: run `course record 03`'):
        recorded("x", lesson=3)
    (tmp_path / "notebooks/03_a.records.json").write_text('{"values": {"x": [1, 2]}}')
    assert recorded("x", lesson=3) == [1, 2]
    with pytest.raises(CourseError, match='no record "y"'):
        recorded("y", lesson=3)


def test_record_prints_where_nothing_is_kept_and_refuses_what_json_cannot_hold(capsys, monkeypatch):
    monkeypatch.delenv("COURSE_RECORD_FILE", raising=False)
    record("x", (1, 2))
    assert "x = [1, 2] (kept only by" in capsys.readouterr().out
    with pytest.raises(CourseError, match=r"tensor\.tolist"):
        record("x", {1, 2})


def test_recorded_prefers_what_this_run_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RECORD_FILE", str(tmp_path / "r.json"))
    record("x", 1)
    record("y", 2)
    assert (recorded("x", lesson=3), recorded("y", lesson=3)) == (1, 2)
    assert Path(tmp_path / "r.json").exists()
