"""English from Python itself: the manual and the standard library's docstrings."""

import hashlib
import platform
import subprocess
import sys

import pytest

from course_lib.data import text
from course_lib.data.registry import DataUnavailable
from course_lib.data.text import Corpus
from course_lib.runtime import CourseError

CORPORA = [text.python_manual, text.stdlib_docstrings, text.python_docs]


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_corpus_says_what_it_is(corpus):
    found = corpus()
    assert found is corpus()  # read once in a process
    assert platform.python_version() in found.source
    assert "Python Software Foundation" in found.licence
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()
    assert "documents" not in repr(found)
    assert all(document.strip() for document in found.documents)


def test_the_manual_explains_the_if_statement_without_underlines():
    manual = text.python_manual()
    assert len(manual.text) > 250_000
    assert 'The "if" statement' in manual.text
    assert "It selects exactly one of the suites by evaluating the expressions" in manual.text
    assert "****" not in manual.text


def test_docstrings_are_prose_of_public_modules():
    docstrings = text.stdlib_docstrings()
    assert len(docstrings.text) > 700_000
    assert len(docstrings.documents) > 200
    assert "Text wrapping and filling." in docstrings.text  # textwrap
    assert ">>>" not in docstrings.text
    assert text.python_docs().documents == text.python_manual().documents + docstrings.documents


@pytest.mark.parametrize("corpus", [text.python_manual, text.stdlib_docstrings])
def test_no_long_paragraph_stands_twice(corpus):
    long = [p for d in corpus().documents for p in d.split("\n\n") if len(p) >= 40]
    assert len(long) == len(set(long)) > 1000


def test_the_text_is_the_same_in_another_process():
    code = "from course_lib.data import text; print(text.python_docs().sha256)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == text.python_docs().sha256


def test_docstrings_come_from_python_and_nothing_installed_beside_it(tmp_path, monkeypatch):
    lib = tmp_path / "lib"
    (lib / "json").mkdir(parents=True)
    (lib / "site-packages" / "other").mkdir(parents=True)
    (lib / "test").mkdir()
    english = '"""Serialise the mill and {} to a stream of characters, one by one."""\n'
    (lib / "json" / "__init__.py").write_text(english.format("its wheel"))
    (lib / "json" / "tool.py").write_text(
        "class Wheel:\n    def turn(self):\n        '''Turn the wheel of the mill slowly until noon.\n\n"
        "        >>> Wheel().turn()\n        'turned'\n\n        It then stands until the evening bell.'''\n"
    )
    (lib / "broken.py").write_text('"""' + "never closed")
    (lib / "ast.py").write_text('"""Bad syntax follows these words in the file."""\ndef (:\n')
    for stranger in ("site-packages/other/__init__.py", "test/case.py", "sitecustomize.py"):
        (lib / stranger).write_text(english.format("nobody"))
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(lib))
    assert text.stdlib_docstrings.__wrapped__().documents == (
        "Serialise the mill and its wheel to a stream of characters, one by one.",
        "Turn the wheel of the mill slowly until noon.\n\nIt then stands until the evening bell.",
    )


def test_a_python_without_sources_or_manual_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(text.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataUnavailable, match="install Python in full"):
        text.stdlib_docstrings.__wrapped__()
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataUnavailable, match="without its manual"):
        text.python_manual.__wrapped__()


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.5), (1.0,)])
def test_a_split_shares_out_whole_documents(fractions):
    whole = text.python_docs()
    parts = whole.split(fractions)
    assert sorted(d for part in parts for d in part.documents) == sorted(whole.documents)
    size = sum(map(len, whole.documents))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(sum(map(len, part.documents)) / size - fraction) < 0.02
        places = [whole.documents.index(d) for d in part.documents]
        assert places == sorted(places)
    assert parts == whole.split(fractions)


def test_a_documents_order_does_not_change_its_part():
    documents = tuple(f"{i} " * (5 + i % 7) for i in range(60))
    there = Corpus("there", documents, "", "").split((0.7, 0.3))
    back = Corpus("back", documents[::-1], "", "").split((0.7, 0.3))
    for a, b in zip(there, back, strict=True):
        assert set(a.documents) == set(b.documents)


@pytest.mark.parametrize("fractions", [(), (0.5, 0.4), (1.2, -0.2), (0.0, 1.0), (float("nan"), 1)])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(CourseError, match="add up to 1"):
        Corpus("two lines", ("one", "two"), "", "").split(fractions)


def test_more_parts_than_documents_are_refused():
    with pytest.raises(CourseError, match="2 documents, too few for 3 parts"):
        Corpus("two lines", ("one", "two"), "", "").split((0.4, 0.3, 0.3))
