"""Type a sentence, point at a word, and see whom each head asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets


@dataclass(frozen=True)
class HeadsAsked:
    """What the heads of a model say about one text.

    Attributes:
        queries: the words that ask.
        keys: the words that are asked; the same as ``queries`` in self-attention.
        heads: a name for each head.
        weights: for each head and each query, how much it attends to each key.
        notes: for each query, a line of text to show under the table.

    """

    queries: list[str]
    keys: list[str]
    heads: list[str]
    weights: list[list[list[float]]]
    notes: list[str]


class HeadsView(anywidget.AnyWidget):
    """A table with a row for each head, lit up by how much the pointed-at word attends to each key.

    The asking words are buttons: pointing, tabbing or tapping chooses one.

    Args:
        compute: what the model says about a text; it raises ValueError with a sentence where it cannot.
        text: the first text.

    """

    _esm = """
    function make(tag, parent, text) {
      const it = document.createElement(tag);
      if (text !== undefined) it.textContent = text;
      if (parent) parent.append(it);
      return it;
    }
    function render({ model, el }) {
      el.classList.add("course-heads");
      const box = make("input", el);
      box.type = "text"; box.value = model.get("text");
      box.setAttribute("aria-label", "a sentence to look at");
      const row = make("div", el); row.className = "row";
      const table = make("table", el);
      const note = make("div", el); note.className = "note";
      note.setAttribute("aria-live", "polite");
      let chosen = 0, timer = null, cells = [];
      box.addEventListener("keydown", (event) => event.stopPropagation());
      box.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => { model.set("text", box.value); model.save_changes(); }, 250);
      });
      function paint() {
        const shown = model.get("shown");
        [...row.children].forEach((button, i) => {
          button.setAttribute("aria-pressed", String(i === chosen));
          button.style.outline = i === chosen ? "2px solid #D55E00" : "none";
        });
        cells.forEach((line, h) => line.forEach((cell, j) => {
          const w = shown.weights[h][chosen][j];
          cell.style.background = `rgba(0,114,178,${0.9 * w})`;
          cell.style.color = w > 0.45 ? "white" : "inherit";
          cell.textContent = w < 0.005 ? "\\u00b7" : w.toFixed(2);
        }));
        note.textContent = model.get("problem") || shown.notes[chosen] || "";
      }
      function build() {
        const shown = model.get("shown");
        if (!shown.queries) return;
        if (chosen >= shown.queries.length) chosen = 0;
        row.replaceChildren(...shown.queries.map((word, i) => {
          const button = make("button", null, word);
          const choose = () => { chosen = i; paint(); };
          for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, choose);
          return button;
        }));
        table.replaceChildren();
        const head = make("tr", make("thead", table));
        make("th", head, "asks");
        shown.keys.forEach((word) => { make("th", head, word).scope = "col"; });
        const body = make("tbody", table);
        cells = shown.heads.map((name) => {
          const line = make("tr", body);
          make("th", line, name).scope = "row";
          return shown.keys.map(() => make("td", line));
        });
        paint();
      }
      model.on("change:shown", build);
      model.on("change:problem", paint);
      build();
    }
    export default { render };
    """
    _css = """
    .course-heads input { width: 40em; max-width: 100%; padding: 4px; font-size: 1em; }
    .course-heads .row { margin: 8px 0; display: flex; flex-wrap: wrap; gap: 3px; }
    .course-heads button { border: 1px solid #999; border-radius: 4px; padding: 4px 8px;
      background: none; color: inherit; font-size: 1em; cursor: pointer; }
    .course-heads table { border-collapse: collapse; }
    .course-heads th { font-weight: normal; padding: 2px 8px; }
    .course-heads tbody th { text-align: left; opacity: 0.8; }
    .course-heads td { border: 1px solid #ccc; padding: 3px 8px; text-align: center; min-width: 2.6em; }
    .course-heads .note { min-height: 1.4em; margin-top: 6px; }
    """
    text = traitlets.Unicode("").tag(sync=True)
    shown: Any = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, compute: Callable[[str], HeadsAsked], text: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._compute = compute
        self.observe(self._update, names="text")
        self.text = text

    def _update(self, change: Any) -> None:
        try:
            asked = self._compute(self.text)
        except ValueError as error:
            self.problem = str(error)
            return
        with self.hold_sync():
            self.problem = ""
            self.shown = {
                "queries": asked.queries,
                "keys": asked.keys,
                "heads": asked.heads,
                "weights": asked.weights,
                "notes": asked.notes,
            }
