"""From a lesson's source to its notebooks: what is written, what drifts, what is refused."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from publishing_course import POINTS, SOURCE, make_course

from course_lib.publishing.build import build, compose_lesson, drift
from course_lib.publishing.execution import execute
from course_lib.publishing.lessons import LessonFiles, find_lessons, select
from course_lib.publishing.notebooks import METADATA
from course_lib.runtime import CourseError

STUB = "# YOUR CODE HERE\n    raise NotImplementedError()"


@pytest.fixture
def lesson(tmp_path: Path) -> LessonFiles:
    return make_course(tmp_path)


def cells_by_id(path: Path) -> dict[str, dict]:
    return {cell["id"]: cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}


def pretend_executed(files: LessonFiles, points: dict[str, int] = POINTS) -> None:
    """Write the solution as if it had run, with counts and no outputs."""
    notebook = compose_lesson(files, points).solution
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
    nbformat.write(notebook, files.solution)


# ---- what is written


def test_learners_notebook_keeps_signature_and_docstring_and_loses_the_body(lesson):
    build(lesson, POINTS)
    source = "".join(cells_by_id(lesson.learner)["exercise-double"]["source"])
    assert source == f'def double(x: float) -> float:\n    """Return twice x."""\n    {STUB}'


def test_each_method_of_a_class_is_cut(lesson):
    build(lesson, POINTS)
    source = "".join(cells_by_id(lesson.learner)["exercise-Counter"]["source"])
    assert source.count("raise NotImplementedError()") == 2
    assert '"""Add one and return the count."""' in source
    assert "start: int = 0" in source
    assert "the_number_that_is_kept" not in source


def test_solution_holds_the_source_between_nbgraders_marks(lesson):
    solution = compose_lesson(lesson, POINTS).solution
    cell = next(cell for cell in solution.cells if cell.id == "exercise-double")
    assert "result_of_the_doubling = x * math.sqrt(4.0)" in cell.source
    assert cell.source.count("### BEGIN SOLUTION") == cell.source.count("### END SOLUTION") == 1
    namespace: dict = {}
    exec("import math\n" + cell.source, namespace)
    assert namespace["double"](3) == 6


def test_marks_in_the_package_narrow_what_is_cut(tmp_path):
    source = SOURCE.replace("import double  #", "import narrowed  #")
    build(make_course(tmp_path, source), POINTS)
    text = "".join(
        cells_by_id(tmp_path / "notebooks/03_counting.ipynb")["exercise-double"]["source"]
    )
    assert "shown = x" in text
    assert "hidden" not in text


def test_outside_of_exercises_code_is_written_out_whole_and_without_marks(tmp_path):
    source = SOURCE.replace(
        "print(double(3))", "from course_lib.models.toy import narrowed, LIMIT  # course: write out"
    )
    build(make_course(tmp_path, source), POINTS)
    text = "".join(
        cells_by_id(tmp_path / "notebooks/03_counting.ipynb")["what-it-gives-1"]["source"]
    )
    assert "hidden = shown" in text
    assert "SOLUTION" not in text
    assert text.endswith("LIMIT = 3")


def test_import_over_several_lines_is_written_out(tmp_path):
    source = SOURCE.replace(
        "from course_lib.models.toy import Counter  # course: write out",
        "from course_lib.models.toy import (  # course: write out\n    Counter,\n)\n\nkept = 1",
    )
    files = make_course(tmp_path, source)
    cell = next(
        cell
        for cell in compose_lesson(files, POINTS).solution.cells
        if cell.id == "exercise-Counter"
    )
    assert cell.source.startswith("class Counter:")
    assert cell.source.endswith("kept = 1")


def test_nbgrader_metadata(lesson):
    build(lesson, POINTS)
    cells = cells_by_id(lesson.learner)
    exercise = cells["exercise-Counter"]["metadata"]["nbgrader"]
    check = cells["check-Counter"]["metadata"]["nbgrader"]
    assert (exercise["solution"], exercise["grade"], exercise["locked"]) == (True, False, False)
    assert (check["solution"], check["grade"], check["locked"]) == (False, True, True)
    assert check["points"] == 3
    assert exercise["grade_id"] == "exercise-Counter"
    assert exercise["schema_version"] == check["schema_version"] == 3
    assert re.fullmatch(r"[0-9a-f]{32}", check["checksum"])
    assert cells["check-Counter"]["metadata"]["editable"] is False
    assert cells["exercise-Counter"]["metadata"]["deletable"] is False


def test_notebook_is_valid_has_no_outputs_and_no_versions(lesson):
    build(lesson, POINTS)
    notebook = nbformat.read(lesson.learner, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert notebook.metadata.kernelspec.name == "python3"
    assert "version" not in notebook.metadata.language_info
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_ids_come_from_parts_and_headings(lesson):
    build(lesson, POINTS)
    assert list(cells_by_id(lesson.learner)) == [
        "03-counting",
        "parameters",
        "setup",
        "twice",
        "exercise-double",
        "check-double",
        "exercise-Counter",
        "check-Counter",
        "what-it-gives",
        "what-it-gives-1",
        "what-it-gives-2",
        "what-it-gives-3",
    ]


def test_ids_are_unique_where_headings_repeat(tmp_path):
    again = '\n# %% [markdown]\n"""\n## Twice\n"""\n\n# %%\nx = 1\n'
    files = make_course(tmp_path, SOURCE + again + again)
    build(files, POINTS)
    ids = [cell["id"] for cell in json.loads(files.learner.read_text(encoding="utf-8"))["cells"]]
    assert len(ids) == len(set(ids))
    assert {"twice", "twice-1", "twice-2"} <= set(ids)


def test_record_cells_are_shown_and_run_only_when_recording(lesson):
    shown = compose_lesson(lesson, POINTS).solution.cells[-1]
    live = compose_lesson(lesson, POINTS, recording=True).solution.cells[-1]
    assert shown.cell_type == "markdown"
    assert "course record 03" in shown.source
    assert 'print("hours of work")' in shown.source
    assert live.cell_type == "code"


def test_building_again_changes_nothing(lesson):
    assert build(lesson, POINTS).changed == (lesson.learner,)
    before = lesson.learner.stat().st_mtime_ns
    assert build(lesson, POINTS).changed == ()
    assert lesson.learner.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("Some words.", "Some other words.", ["twice"]),
        ("print(double(3))", "print(double(4))", ["what-it-gives-1"]),
        ('double = check("double")', 'double = check("double")  # again', ["check-double"]),
    ],
)
def test_a_one_line_edit_is_a_one_cell_diff(lesson, old, new, changed):
    build(lesson, POINTS)
    before = cells_by_id(lesson.learner)
    lesson.source.write_text(SOURCE.replace(old, new), encoding="utf-8")
    build(lesson, POINTS)
    after = cells_by_id(lesson.learner)
    assert list(before) == list(after)
    assert [name for name in after if after[name] != before[name]] == changed


def test_a_new_cell_changes_no_other_section(lesson):
    build(lesson, POINTS)
    before = cells_by_id(lesson.learner)
    new = SOURCE.replace('# %% tags=["exercise"] exercise="double"', "# %%\ny = 1\n\n\\g", 1)
    new = new.replace("\\g", '# %% tags=["exercise"] exercise="double"')
    lesson.source.write_text(new, encoding="utf-8")
    build(lesson, POINTS)
    after = cells_by_id(lesson.learner)
    assert set(after) - set(before) == {"twice-1"}
    assert all(after[name] == before[name] for name in before)


# ---- what drifts


def test_no_drift_after_a_build(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    assert drift(lesson, POINTS) == []


def test_drift_names_the_cell_in_both_notebooks(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    lesson.source.write_text(SOURCE.replace("print(double(3))", "print(1)"), encoding="utf-8")
    found = drift(lesson, POINTS)
    assert len(found) == 2
    assert found[0] == (
        'notebooks/03_counting.ipynb: the cell "what-it-gives-1" differs from the source (source); '
        "run `course build 03`."
    )
    assert found[1].startswith('solutions/03_counting.ipynb: the cell "what-it-gives-1"')
    assert "course build --execute 03" in found[1]


def test_drift_of_the_package_is_drift_of_the_lesson(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    toy = lesson.root / "course_lib/models/toy.py"
    toy.write_text(toy.read_text(encoding="utf-8").replace("x * math", "2 * x + 0 * math"))
    assert [sentence.split('"')[1] for sentence in drift(lesson, POINTS)] == ["exercise-double"]


def test_drift_of_points(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    found = drift(lesson, {**POINTS, "double": 5})
    assert len(found) == 2
    assert all('"check-double" differs from the source (metadata)' in each for each in found)


def test_drift_by_missing_added_and_moved_cells(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    notebook = nbformat.read(lesson.learner, as_version=4)
    notebook.cells[3], notebook.cells[4] = notebook.cells[4], notebook.cells[3]
    nbformat.write(notebook, lesson.learner)
    assert "another order" in drift(lesson, POINTS)[0]
    del notebook.cells[0]
    notebook.cells.append(nbformat.v4.new_code_cell("1", id="stray"))
    nbformat.write(notebook, lesson.learner)
    found = drift(lesson, POINTS)
    assert any('"stray" is not in the source' in sentence for sentence in found)
    assert any('"03-counting" of the source is missing' in sentence for sentence in found)


def test_drift_where_files_are_missing_or_damaged(lesson):
    found = drift(lesson, POINTS)
    assert [sentence.split(" is ")[1].split(":")[0] for sentence in found] == ["missing", "missing"]
    lesson.learner.write_text("{not json")
    assert drift(lesson, POINTS)[0].startswith("notebooks/03_counting.ipynb is not a notebook")


def test_check_finds_cells_that_did_not_run_or_failed_and_large_files(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    notebook = nbformat.read(lesson.solution, as_version=4)
    by_id = {cell.id: cell for cell in notebook.cells}
    by_id["what-it-gives-1"].execution_count = None
    by_id["what-it-gives-2"].outputs = [nbformat.v4.new_output("error", ename="E", evalue="x")]
    by_id["setup"].outputs = [nbformat.v4.new_output("stream", text="x" * 1_000_001)]
    nbformat.write(notebook, lesson.solution)
    found = "\n".join(drift(lesson, POINTS))
    assert '"what-it-gives-1" was not executed' in found
    assert '"what-it-gives-2" holds an error' in found
    assert "has 1.0 MB" in found


def test_learners_notebook_with_outputs_is_drift(lesson):
    build(lesson, POINTS)
    pretend_executed(lesson)
    notebook = nbformat.read(lesson.learner, as_version=4)
    notebook.cells[1].execution_count = 1
    nbformat.write(notebook, lesson.learner)
    assert drift(lesson, POINTS) == [
        "notebooks/03_counting.ipynb: it holds outputs; run `course build 03`."
    ]


# ---- what is refused, each with one sentence


def refused(tmp_path: Path, source: str, points: dict[str, int] = POINTS) -> str:
    files = make_course(tmp_path, source)
    with pytest.raises(CourseError) as caught:
        compose_lesson(files, points)
    sentence = str(caught.value)
    assert sentence.startswith("solutions/03_counting.py")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('exercise="double"', 'exercise="treble"', 'there is no exercise "treble"'),
        ('tags=["experiment"]', 'tags=["experimnt"]', 'there is no tag "experimnt"'),
        ('tags=["experiment"]', 'tags=["experiment"', "is not understood"),
        ('tags=["experiment"]', "a title", "is not understood"),
        ('tags=["experiment"]', "tags=3", "tags must be a list"),
        ('tags=["experiment"]', 'exercise="double"', 'tagged "exercise" or "check"'),
        ('tags=["exercise"] exercise="double"', 'tags=["exercise"]', "names its exercise"),
        (' tags=["parameters"]', "", 'no cell tagged "parameters"'),
        (' tags=["setup"]', "", 'no cell tagged "setup"'),
        ('tags=["experiment"]', 'tags=["setup"]', 'a second cell is tagged "setup"'),
        ("SEED = 0\n", "", "must set SEED"),
        ("SEED = 0", "SEED = int(0)", "must set SEED"),
        ("start(lesson=3", "start(lesson=4", "start(lesson=3"),
        ('double = check("double")', "pass", 'must call check("double")'),
        ("print(double(3))", 'x = """\n# %% inside\n"""', "would cut the cell in two"),
        ("print(double(3))", "print(double(3)", "not valid Python"),
        ("print(double(3))", "%timeit double(3)", "write a magic as a comment"),
        ("print(double(3))", "", "this cell is empty"),
        ("# 03 · Counting", "03 · Counting", "begins with the title"),
        ("import double  #", "import triple  #", "defines no `triple`"),
        ("models.toy import double", "models.tay import double", "no module course_lib.models.tay"),
        ("import double  #", "import double as d  #", "by its own name"),
        ("import double  #", "import crowded  #", "give the body lines of its own"),
        ("import double  #", "import LIMIT  #", "holds no solution to cut"),
        ("print(double(3))", "x = 1  # course: write out", "belongs behind an import"),
        ("print(double(3))", "# course: write out", "on a line of its own"),
        ("import math\n", "", "uses `math`"),
        (
            "print(double(3))",
            "### BEGIN SOLUTION\nx = 1\n### END SOLUTION",
            "Solution region detected in a non-solution cell",
        ),
        (
            "from course_lib.models.toy import double  # course: write out",
            "### BEGIN SOLUTION\ndouble = 1\n### END SOLUTION",
            "cut outside of any function",
        ),
        (
            "from course_lib.models.toy import double  # course: write out",
            "def double(x):\n    ### BEGIN SOLUTION\n    return 1",
            "no end solution statement",
        ),
    ],
)
def test_bad_source(tmp_path, old, new, said):
    assert old in SOURCE
    assert said in refused(tmp_path, SOURCE.replace(old, new, 1))


def test_sentence_names_the_line(tmp_path):
    line = SOURCE.splitlines().index('# %% tags=["experiment"]') + 1
    sentence = refused(tmp_path, SOURCE.replace('["experiment"]', '["nonsense"]'))
    assert sentence.startswith(f"solutions/03_counting.py, line {line}: ")


def test_not_percent_format(tmp_path):
    assert "percent format" in refused(tmp_path, "print('hello')\n")
    assert "before the first cell" in refused(tmp_path, "import math\n" + SOURCE)


def test_duplicate_missing_and_misplaced_exercises(tmp_path):
    twice = '\n# %% tags=["check"] exercise="double"\ncheck("double")\n'
    assert 'a second check cell for the exercise "double"' in refused(tmp_path, SOURCE + twice)
    sentence = refused(tmp_path, SOURCE, {**POINTS, "forgotten": 1})
    assert 'the exercise "forgotten" has no exercise cell' in sentence
    early = SOURCE.replace(
        '# %% [markdown]\n"""\n## Twice', twice[1:] + '\n# %% [markdown]\n"""\n## Twice'
    )
    assert "stands before the exercise" in refused(tmp_path, early)


def test_unwritable_folder(lesson, monkeypatch):
    # Root may write anywhere, so the system's refusal is played.
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(
        CourseError, match=r"^notebooks/03_counting.ipynb cannot be written \(Permission"
    ):
        build(lesson, POINTS)


def test_misnamed_and_colliding_sources(lesson):
    (lesson.root / "solutions/Notes.py").write_text("")
    with pytest.raises(CourseError, match=r"solutions/Notes\.py is not named like a lesson"):
        find_lessons(lesson.root)
    (lesson.root / "solutions/Notes.py").rename(lesson.root / "solutions/03_other.py")
    with pytest.raises(CourseError, match="both lesson 03"):
        find_lessons(lesson.root)


def test_select(lesson):
    (lesson.root / "solutions/11_other.py").write_text("")
    names = lambda words: [each.name for each in select(lesson.root, words)]  # noqa: E731
    assert names([]) == ["03_counting", "11_other"]
    assert (
        names(["3"])
        == names(["03"])
        == names(["03_counting"])
        == names(["00-07"])
        == ["03_counting"]
    )
    assert names(["11", "0-3"]) == ["03_counting", "11_other"]
    with pytest.raises(CourseError, match='no lesson "12": this course has 03, 11'):
        select(lesson.root, ["12"])
    with pytest.raises(CourseError, match="inside the course's repository"):
        select(lesson.root / "nowhere", [])


# ---- running


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def test_execution_keeps_no_times_versions_widgets_or_progress_bars(tmp_path):
    notebook = notebook_of(
        "import sys\n"
        "print('one', flush=True)\nprint('two')\n"
        "from tqdm import tqdm\nfor _ in tqdm(range(3), leave=False): pass\n"
        "for _ in tqdm(range(3)): pass\nprint('a warning', file=sys.stderr)",
        "import ipywidgets\nipywidgets.IntSlider()",
        "import os\nprint(sorted(set(os.environ) & {'COURSE_SEED', 'NBGRADER_EXECUTION'}), os.getcwd())",
    )
    execute(notebook, tmp_path)
    assert notebook.metadata == METADATA
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert all(not cell.metadata for cell in notebook.cells)
    assert [(output.name, output.text) for output in notebook.cells[0].outputs] == [
        ("stdout", "one\ntwo\n"),
        ("stderr", "a warning\n"),
    ]
    assert notebook.cells[1].outputs == []
    assert str(tmp_path) in notebook.cells[2].outputs[0].text


def test_execution_names_the_cell_and_line_of_an_error(tmp_path):
    with pytest.raises(CourseError, match=r'^cell "cell-1", line 2: ValueError: no such thing$'):
        execute(notebook_of("x = 1", "y = x\nraise ValueError('no such thing')"), tmp_path)


def test_environment_shields_runs_from_the_users_settings(monkeypatch):
    from course_lib.publishing.execution import environment

    monkeypatch.delenv("COURSE_SCALE", raising=False)  # `make test` sets it
    monkeypatch.setenv("COURSE_SEED", "7")
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("COURSE_DATA_DIR", "/data")
    monkeypatch.setenv("COURSE_HOME", "/mine")
    with environment(COURSE_SCALE="smoke"):
        assert "COURSE_SEED" not in os.environ
        assert "NBGRADER_EXECUTION" not in os.environ
        assert os.environ["COURSE_SCALE"] == "smoke"
        assert os.environ["COURSE_DATA_DIR"] == "/data"
        assert os.environ["COURSE_HOME"] != "/mine"
        assert Path(os.environ["COURSE_HOME"]).is_dir()
    assert os.environ["COURSE_SEED"] == "7"
    assert os.environ["COURSE_HOME"] == "/mine"
    assert "COURSE_SCALE" not in os.environ
