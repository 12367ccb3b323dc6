"""Type a sentence, point at a word, and see whom it asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets


@dataclass(frozen=True)
class Asked:
    """What a model says about one sentence of n words.

    Attributes:
        words: the n words as the model reads them.
        weights: for each word, how much it attends to each of the n words.
        notes: for each word, a line of text to show under the sentence.

    """

    words: list[str]
    weights: list[list[float]]
    notes: list[str]


class AttentionView(anywidget.AnyWidget):
    """A sentence whose words light up by how much the pointed-at word attends to them.

    The words are buttons: pointing, tabbing or tapping chooses one.

    Args:
        compute: what the model says about a text; it raises ValueError with a sentence where it cannot.
        text: the first sentence.

    """

    _esm = """
    function render({ model, el }) {
      el.classList.add("course-attention");
      const box = document.createElement("input");
      box.type = "text"; box.value = model.get("text");
      box.setAttribute("aria-label", "a sentence to look at");
      const row = document.createElement("div"); row.className = "row";
      const note = document.createElement("div"); note.className = "note";
      note.setAttribute("aria-live", "polite");
      el.append(box, row, note);
      let chosen = null, timer = null;
      box.addEventListener("keydown", (event) => event.stopPropagation());
      box.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => { model.set("text", box.value); model.save_changes(); }, 250);
      });
      function paint() {
        const weights = model.get("weights");
        [...row.children].forEach((button, j) => {
          const w = chosen === null ? 0 : (weights[chosen] || [])[j] || 0;
          button.style.background = `rgba(0,114,178,${0.9 * w})`;
          button.style.color = w > 0.45 ? "white" : "inherit";
          button.style.outline = j === chosen ? "2px solid #D55E00" : "none";
          button.querySelector("small").textContent = chosen === null ? "\\u00a0" : w.toFixed(2);
        });
        const problem = model.get("problem");
        note.textContent = problem || (chosen === null ? "Point at a word." : model.get("notes")[chosen] || "");
      }
      function build() {
        const words = model.get("words");
        if (chosen !== null && chosen >= words.length) chosen = null;
        row.replaceChildren(...words.map((word, i) => {
          const button = document.createElement("button");
          const small = document.createElement("small");
          button.append(word, document.createElement("br"), small);
          const choose = () => { chosen = i; paint(); };
          button.addEventListener("pointerenter", choose);
          button.addEventListener("focus", choose);
          button.addEventListener("click", choose);
          return button;
        }));
        paint();
      }
      model.on("change:words", build);
      model.on("change:weights", paint);
      model.on("change:notes", paint);
      model.on("change:problem", paint);
      build();
    }
    export default { render };
    """
    _css = """
    .course-attention input { width: 40em; max-width: 100%; padding: 4px; font-size: 1em; }
    .course-attention .row { margin: 8px 0; display: flex; flex-wrap: wrap; gap: 3px; }
    .course-attention button { border: 1px solid #999; border-radius: 4px; padding: 4px 8px;
      background: none; color: inherit; font-size: 1em; cursor: pointer; }
    .course-attention small { opacity: 0.8; }
    .course-attention .note { min-height: 1.4em; }
    """
    text = traitlets.Unicode("").tag(sync=True)
    words: Any = traitlets.List().tag(sync=True)
    weights: Any = traitlets.List().tag(sync=True)
    notes: Any = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, compute: Callable[[str], Asked], text: str, **rest: Any) -> None:
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
            self.weights = asked.weights
            self.notes = asked.notes
            self.words = asked.words
