"""Script, formulas, terminal codes and very long texts, wherever a text of a student's reaches a report."""

import csv
import html.parser
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from hostile.case import (
    FULL,
    SOLUTIONS,
    SOLVED,
    ZERO,
    Handed,
    Points,
    as_bytes,
    code,
    notebook,
    with_answers,
    without,
)
from hostile.names import beside, folder

WHY = "A text is a text in every report; the marks are those of the code."
SCRIPT = "<script>alert(1)</script>"
FILE = "07_self_attention.ipynb"


def case(name: str, student: str, put: Callable[[Path], list[Path]], fair: Points = FULL) -> Handed:
    return Handed(name, WHY, put, {student: fair})


def holding(name: str, student: str, data: bytes, fair: Points) -> Handed:
    """Return a case of a student with a harmless name and this notebook."""

    def put(students: Path) -> list[Path]:
        (students / student).mkdir()
        (students / student / FILE).write_bytes(data)
        return []

    return case(name, student, put, fair)


def raising(text: str) -> bytes:
    """Return a solved notebook whose causal_mask raises with a text."""
    return with_answers(
        causal_mask=f"def causal_mask(n_q, n_k=None, device=None):\n    raise ValueError({text})"
    )


HANDED = [
    case("script in a name", "i-_script_", folder("i-<script>alert(1)<∕script>")),
    case("an attribute in a name", "i-quote", folder("i-quote\" onmouseover='alert(1)' x=\"")),
    case("a template in a name", "i-_7_7", folder("i-{{7*7}}{% include 'x' %}")),
    case("a picture in a file name", "img_src", beside("<img src=x onerror=alert(1)>.ipynb")),
    case("a formula: =", "1_2_cmd", folder("=1+2+cmd|' !A0'")),
    case("a formula: +", "i-plus", folder("+i-plus")),
    case("a formula: -", "i-minus", folder("-i-minus")),
    case("a formula: @", "i-at", folder("@i-at")),
    case("a formula after a tab", "i-tab", folder("\t=i-tab")),
    case("a formula of full width", "1_i-wide", folder("＝1+i-wide")),
    case("a comma, a quote and a line in a name", "i-comma", folder('i-comma,"x"\n=1+1')),
    case("terminal codes", "i-ansi", folder("i-ansi\x1b[2J\x1b]0;owned\x07\x9b31m")),
    case("letters that run backwards", "i-bidi", folder("i-bidi‮gpj.exe⁦x⁩")),
    case("rich's markup", "i-_bold_red", folder("i-[bold red]x[∕bold]")),
    holding("script in an error", "i-error", raising(repr(SCRIPT)), without("causal_mask")),
    holding(
        "a megabyte in an error", "i-large", raising("'<b>' * 300_000"), without("causal_mask")
    ),
    holding(
        "terminal codes, bidi, surrogates and nulls in an error",
        "i-codes",
        raising("'\\x1b[2J\\x9b31m\\u202e\\ud800\\x00\\n=1+1'"),
        without("causal_mask"),
    ),
    holding(
        "script as an exception's name",
        "i-type",
        with_answers(
            causal_mask=f"def causal_mask(n_q, n_k=None, device=None):\n"
            f"    raise type({SCRIPT!r} * 10_000, (Exception,), {{}})('\\ud800')"
        ),
        without("causal_mask"),
    ),
    holding(
        "script in the failing line",
        "i-line",
        with_answers(
            causal_mask=f"def causal_mask(n_q, n_k=None, device=None):\n    raise ValueError('{SCRIPT}‮')  # ‮ <b>"
        ),
        without("causal_mask"),
    ),
    holding(
        "script in a value",
        "i-value",
        with_answers(
            causal_mask=f"def causal_mask(n_q, n_k=None, device=None):\n    return {SCRIPT!r} * 100_000 + '\\ud800'"
        ),
        without("causal_mask"),
    ),
    holding(
        "script in the error of a cell",
        "i-cell",
        as_bytes(
            notebook(
                {
                    **SOLUTIONS,
                    "causal_mask": f"raise ValueError({SCRIPT!r} * 1000 + '\\ud800')\ndef causal_mask(): pass",
                }
            )
        ),
        without("causal_mask"),
    ),
    holding(
        "script in what a flag quotes",
        "i-flag",
        as_bytes(
            notebook(
                SOLUTIONS,
                added=(
                    f"torch.__dict__[{SCRIPT!r}].x = 1",
                    f"torch.__dict__[{'y' * 10**6!r}].x = 1",
                    "torch.__dict__['\x1b[2J‮=1'].x = 1",
                ),
            )
        ),
        FULL,
    ),
    holding(
        "script in Markdown, metadata and outputs",
        "i-rest",
        as_bytes(
            [
                *[
                    {
                        **cell,
                        "outputs": [{"output_type": "display_data", "data": {"text/html": SCRIPT}}],
                    }
                    for cell in notebook()
                ],
                {"cell_type": "markdown", "metadata": {"name": SCRIPT}, "source": SCRIPT * 50_000},
                code(f"'{SCRIPT}'"),
            ]
        ),
        ZERO,
    ),
    holding("solved, for comparison", "i-plain", SOLVED, FULL),
]

MOST_BYTES = 2_000_000
_SAFE_TAGS = {
    "html",
    "head",
    "meta",
    "style",
    "body",
    "h1",
    "h2",
    "h3",
    "p",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "code",
    "br",
    "span",
    "ul",
    "ol",
    "li",
    "a",
    "div",
    "section",
    "header",
    "footer",
    "main",
    "svg",
    "rect",
    "text",
    "g",
    "line",
    "strong",
    "em",
    "details",
    "summary",
    "caption",
    "figure",
    "figcaption",
    "col",
    "colgroup",
    "link",
    "abbr",
    "time",
    "title",
    "path",
    "dl",
    "dt",
    "dd",
    "small",
    "nav",
    "pre",
    "b",
    "i",
    "sup",
    "sub",
    "tfoot",
    "article",
    "aside",
}


class _Tags(html.parser.HTMLParser):
    """Notes tags and attributes that no report of the grader's has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SAFE_TAGS:
            self.strange.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.strange.append(f"{name}={value}")


def dangerous(text: str) -> list[str]:
    """Return the characters of a text that a terminal, an editor or a reader could be misled by."""
    found = {
        each
        for each in text
        if unicodedata.category(each) in ("Cc", "Cf", "Cs") and each not in "\n\r\t"
    }
    return sorted(f"U+{ord(each):04X}" for each in found)


def complaints_of_reports(out: Path) -> list[str]:
    """Return what is wrong with the reports in a folder: script, formulas, control characters, length."""
    found = []
    for path in sorted(
        each for each in out.rglob("*") if each.suffix in (".html", ".csv", ".json")
    ):
        where = path.relative_to(out)
        text = path.read_text(encoding="utf-8")
        if path.stat().st_size > MOST_BYTES:
            found.append(f"{where} has {path.stat().st_size} bytes")
        if bad := dangerous(text):
            found.append(f"{where} holds {bad}")
        if path.suffix == ".html":
            tags = _Tags()
            tags.feed(text)
            found += [f"{where} holds {each}" for each in tags.strange]
            if re.search(r"\{\{|\{%", text.replace("{{7*7}}{% include &#39;x&#39; %}", "")):
                found.append(f"{where} holds a template")
        if path.suffix == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.reader(file):
                    found += [
                        f"{where}: {cell[:40]!r}"
                        for cell in row
                        if cell.strip()[:1] in tuple("=+-@＝＋－＠")
                        and not re.fullmatch(r"-?\d+(\.\d+)?", cell.strip())
                    ]
    return found
