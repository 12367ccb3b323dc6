"""Type a text, and see how it is cut into tokens; a slider steps through the merges."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import matplotlib.pyplot as plt
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# Tints of the course's colours, dark text on each; neighbours differ, so the cuts are seen without colour too.
TINTS = ("#CFE3F1", "#F8DCC8", "#CDE9DF", "#F9E7BF", "#EBD5E2")
_HEIGHT, _LETTER, _GAP = 0.62, 0.115, 0.05


@dataclass(frozen=True)
class Cut:
    """A text cut into tokens.

    Attributes:
        pieces: the bytes of each token.
        ids: its number.
        note: a line of text to show below.

    """

    pieces: list[bytes]
    ids: list[int]
    note: str = ""


def shown(piece: bytes) -> str:
    """Return a token as it can be seen: a space as "·", a line feed as "↵", half a character in hexadecimal."""
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"‹{byte:02x}›" for byte in piece)
    marks = {" ": "·", "\n": "↵", "\t": "⇥"}
    return "".join(
        marks.get(each, each) if each in marks or each.isprintable() else f"‹{ord(each):02x}›"
        for each in text
    )


def draw_cuts(rows: Sequence[tuple[str, Cut]], width: float = 9.2) -> Figure:
    """Draw each text as a row of coloured boxes with the ids below: what `TokenView` shows, for a page.

    Args:
        rows: a label and a cut text for each row; long rows are broken.
        width: of the figure, in inches.

    Returns:
        The figure.

    """
    figure: Any
    figure, ax = plt.subplots()
    y = 0.0
    for label, cut in rows:
        ax.text(0, y, f"{label} · {_count(len(cut.ids))}", va="top", fontsize=9, weight="bold")
        y -= 0.3
        x = 0.0
        for number, (piece, each) in enumerate(zip(cut.pieces, cut.ids)):
            text = shown(piece)
            size = max(len(text) * _LETTER, len(str(each)) * 0.07) + 0.1
            if x + size > width - 0.2:
                x, y = 0.0, y - _HEIGHT
            ax.add_patch(
                FancyBboxPatch(
                    (x + 0.02, y - 0.32),
                    size - 0.04,
                    0.3,
                    boxstyle="round,pad=0.02",
                    facecolor=TINTS[number % len(TINTS)],
                    edgecolor="#8A8A8A",
                    linewidth=0.8,
                )
            )
            middle = x + size / 2
            ax.text(
                middle, y - 0.17, text, ha="center", va="center", fontsize=9.5, family="monospace"
            )
            ax.text(
                middle, y - 0.45, str(each), ha="center", va="center", fontsize=6.5, color="#555555"
            )
            x += size + _GAP
        y -= _HEIGHT + 0.12
    figure.set_size_inches(width, max(0.6, -y))
    ax.set(xlim=(-0.05, width - 0.1), ylim=(y + 0.1, 0.05))
    ax.axis("off")
    return figure


def _count(n: int) -> str:
    return "1 token" if n == 1 else f"{n} tokens"


class TokenView(anywidget.AnyWidget):
    """A text as coloured tokens with their ids and bytes, and a slider for the number of merges.

    Args:
        compute: cuts a text with the first so many merges; it raises ValueError with a sentence where it cannot.
        text: the first text.
        n_merges: the merges used at first.
        most: the merges that there are.

    """

    _esm = """
    function make(tag, parent, text) {
      const it = document.createElement(tag);
      if (text !== undefined) it.textContent = text;
      if (parent) parent.append(it);
      return it;
    }
    function render({ model, el }) {
      el.classList.add("course-tokens");
      const box = make("textarea", el);
      box.rows = 2; box.value = model.get("text");
      box.setAttribute("aria-label", "a text to cut");
      const bar = make("div", el); bar.className = "bar";
      const label = make("label", bar, "merges ");
      const slider = make("input", label);
      slider.type = "range"; slider.min = 0; slider.max = 1000;
      const back = make("button", bar, "− 1"), forth = make("button", bar, "+ 1");
      const number = make("output", bar);
      const row = make("div", el); row.className = "row";
      const note = make("div", el); note.className = "note";
      note.setAttribute("aria-live", "polite");
      // The first merges change most: the slider is finer there.
      const most = model.get("most"), power = 3;
      const merges = (value) => Math.round(most * Math.pow(value / 1000, power));
      const value = (n) => 1000 * Math.pow(n / most, 1 / power);
      let timer = null;
      function later(change) { clearTimeout(timer); timer = setTimeout(() => { change(); model.save_changes(); }, 60); }
      box.addEventListener("keydown", (event) => event.stopPropagation());
      slider.addEventListener("keydown", (event) => event.stopPropagation());
      box.addEventListener("input", () => later(() => model.set("text", box.value)));
      slider.addEventListener("input", () => later(() => model.set("n_merges", merges(slider.value))));
      function step(by) {
        const n = Math.min(most, Math.max(0, model.get("n_merges") + by));
        model.set("n_merges", n); model.save_changes(); slider.value = value(n);
      }
      back.addEventListener("click", () => step(-1));
      forth.addEventListener("click", () => step(1));
      function paint() {
        const cut = model.get("cut");
        number.textContent = `${model.get("n_merges")} of ${most} merges`;
        note.textContent = model.get("problem") || cut.note || "";
        row.replaceChildren(...(cut.pieces || []).map(([text, id, bytes], i) => {
          const piece = document.createElement("span");
          piece.className = "piece tint" + (i % 5);
          piece.title = `id ${id}, bytes ${bytes}`;
          piece.tabIndex = 0;
          make("b", piece, text);
          make("small", piece, String(id));
          return piece;
        }));
      }
      model.on("change:cut", paint);
      model.on("change:problem", paint);
      slider.value = value(model.get("n_merges"));
      paint();
    }
    export default { render };
    """
    _css = """
    .course-tokens textarea { width: 46em; max-width: 100%; padding: 4px; font-size: 1em; font-family: inherit; }
    .course-tokens .bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin: 4px 0; }
    .course-tokens .bar input { width: 22em; max-width: 60vw; vertical-align: middle; }
    .course-tokens .row { display: flex; flex-wrap: wrap; gap: 3px; max-width: 60em; }
    .course-tokens .piece { display: flex; flex-direction: column; align-items: center; border-radius: 4px;
      border: 1px solid #8a8a8a; padding: 2px 5px; color: #1a1a1a; }
    .course-tokens .piece b { font-weight: normal; font-family: monospace; white-space: pre; }
    .course-tokens .piece small { color: #555; font-size: 70%; }
    .course-tokens .note { min-height: 1.4em; margin-top: 6px; }
    """ + "".join(
        f".course-tokens .tint{i} {{ background: {tint}; }}" for i, tint in enumerate(TINTS)
    )
    text = traitlets.Unicode("").tag(sync=True)
    n_merges = traitlets.Int(0).tag(sync=True)
    most = traitlets.Int(0).tag(sync=True)
    cut: Any = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self, compute: Callable[[str, int], Cut], text: str, n_merges: int, most: int, **rest: Any
    ) -> None:
        super().__init__(text=text, n_merges=n_merges, most=most, **rest)
        self._compute = compute
        self.observe(self._update, names=["text", "n_merges"])
        self._update(None)

    def _update(self, change: Any) -> None:
        try:
            cut = self._compute(self.text, self.n_merges)
        except ValueError as error:
            self.problem = str(error)
            return
        with self.hold_sync():
            self.problem = ""
            self.cut = {
                "pieces": [
                    [shown(piece), each, piece.hex(" ")] for piece, each in zip(cut.pieces, cut.ids)
                ],
                "note": f"{_count(len(cut.ids))}. {cut.note}",
            }
