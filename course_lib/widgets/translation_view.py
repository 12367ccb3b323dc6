"""Type a sentence, read its translation, point at a word, and see which source words it attends to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets


@dataclass(frozen=True)
class Translated:
    """What a translator says about one sentence of n words.

    Attributes:
        source: the n words as the model reads them.
        target: the m words that it says.
        weights: for each word that it says, how much it attends to each of the n source words.
        notes: for each word that it says, a line of text to show below.
        others: translations to compare with, by name.

    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]
    notes: list[str]
    others: dict[str, str]


class TranslationView(anywidget.AnyWidget):
    """A sentence above its translation; the source lights up for the word that is pointed at.

    The words of the translation are buttons: pointing, tabbing or tapping chooses one.

    Args:
        compute: translates a text; it raises ValueError with a sentence where it cannot.
        text: the first sentence.

    """

    _esm = """
    function render({ model, el }) {
      el.classList.add("course-translation");
      const box = document.createElement("input");
      box.type = "text"; box.value = model.get("text");
      box.setAttribute("aria-label", "a sentence to translate");
      const source = document.createElement("div"); source.className = "row";
      const target = document.createElement("div"); target.className = "row";
      const note = document.createElement("div"); note.className = "note";
      note.setAttribute("aria-live", "polite");
      const others = document.createElement("div"); others.className = "others";
      el.append(box, source, target, note, others);
      let chosen = null, timer = null;
      box.addEventListener("keydown", (event) => event.stopPropagation());
      box.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => { model.set("text", box.value); model.save_changes(); }, 250);
      });
      function paint() {
        const weights = model.get("weights");
        [...source.children].forEach((word, j) => {
          const w = chosen === null ? 0 : (weights[chosen] || [])[j] || 0;
          word.style.background = `rgba(0,114,178,${0.9 * w})`;
          word.style.color = w > 0.45 ? "white" : "inherit";
          word.querySelector("small").textContent = chosen === null ? "\\u00a0" : w.toFixed(2);
        });
        [...target.children].forEach((button, i) => {
          button.style.outline = i === chosen ? "2px solid #D55E00" : "none";
        });
        note.textContent = model.get("problem") ||
          (chosen === null ? "Point at a word of the translation." : model.get("notes")[chosen] || "");
      }
      function build() {
        const said = model.get("target");
        if (chosen !== null && chosen >= said.length) chosen = null;
        source.replaceChildren(...model.get("source").map((word) => {
          const box = document.createElement("span");
          const small = document.createElement("small");
          box.append(word, document.createElement("br"), small);
          return box;
        }));
        target.replaceChildren(...said.map((word, i) => {
          const button = document.createElement("button");
          button.textContent = word;
          const choose = () => { chosen = i; paint(); };
          button.addEventListener("pointerenter", choose);
          button.addEventListener("focus", choose);
          button.addEventListener("click", choose);
          return button;
        }));
        others.replaceChildren(...Object.entries(model.get("others")).map(([name, text]) => {
          const line = document.createElement("div"), label = document.createElement("i");
          label.textContent = name + ": ";
          line.append(label, text);
          return line;
        }));
        paint();
      }
      const events = ["change:source", "change:target", "change:weights", "change:others"];
      events.forEach((event) => model.on(event, build));
      model.on("change:problem", paint);
      build();
    }
    export default { render };
    """
    _css = """
    .course-translation input { width: 40em; max-width: 100%; padding: 4px; font-size: 1em; }
    .course-translation .row { margin: 8px 0; display: flex; flex-wrap: wrap; gap: 3px; }
    .course-translation .row > * { border: 1px solid #999; border-radius: 4px; padding: 4px 8px;
      background: none; color: inherit; font-size: 1em; }
    .course-translation .row > span { border-style: dashed; text-align: center; }
    .course-translation button { cursor: pointer; }
    .course-translation small { opacity: 0.8; }
    .course-translation .note { min-height: 1.4em; }
    .course-translation .others { opacity: 0.8; }
    """
    text = traitlets.Unicode("").tag(sync=True)
    source: Any = traitlets.List().tag(sync=True)
    target: Any = traitlets.List().tag(sync=True)
    weights: Any = traitlets.List().tag(sync=True)
    notes: Any = traitlets.List().tag(sync=True)
    others: Any = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, compute: Callable[[str], Translated], text: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._compute = compute
        self.observe(self._update, names="text")
        self.text = text

    def _update(self, change: Any) -> None:
        try:
            found = self._compute(self.text)
        except ValueError as error:
            self.problem = str(error)
            return
        with self.hold_sync():
            self.problem = ""
            self.notes = found.notes
            self.weights = found.weights
            self.others = found.others
            self.source = found.source
            self.target = found.target
