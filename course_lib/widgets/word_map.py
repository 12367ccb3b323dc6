"""A map of words in the plane: click a word, and see its true neighbours."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import matplotlib.pyplot as plt
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from course_lib.figures import CYCLE, PALETTE

Neighbours = Callable[[str], Sequence[tuple[str, float]]]
_MARKERS = ("o", "s", "^", "D", "v", "P")
_REST = "other"


def draw_word_map(
    points: Mapping[str, tuple[float, float]],
    groups: Mapping[str, str],
    word: str,
    neighbours: Neighbours,
    labelled: Sequence[str] = (),
) -> Figure:
    """Draw the map with one word chosen: what `WordMap` shows, for a page.

    Args:
        points: each word's place in the plane.
        groups: the group of some words, at most six groups, each with its own colour and marker.
        word: the chosen word, one of ``points``.
        neighbours: gives a word's nearest words with their cosines, nearest first.
        labelled: further words whose names are written.

    Returns:
        The figure.

    """
    figure, ax = plt.subplots(figsize=(8.6, 6.4))
    names = list(dict.fromkeys(groups.values()))
    for name in [_REST, *names]:
        members = [w for w in points if groups.get(w, _REST) == name]
        if not members:
            continue
        number = names.index(name) if name in names else None
        ax.scatter(
            [points[w][0] for w in members],
            [points[w][1] for w in members],
            s=9 if number is None else 22,
            marker="o" if number is None else _MARKERS[number],
            color="#BBBBBB" if number is None else CYCLE[number],
            alpha=0.8,
            linewidths=0,
            label=name,
        )
    near = [(w, cosine) for w, cosine in neighbours(word) if w in points]
    x, y = points[word]
    for other, _ in near:
        ax.plot([x, points[other][0]], [y, points[other][1]], color=PALETTE["black"],
                linewidth=0.8, marker="")  # fmt: skip
    ax.margins(0.05)
    figure.draw_without_rendering()  # fixes the layout, so that labels can be kept apart
    taken: list[Bbox] = []
    names_to_write = dict.fromkeys([word, *(w for w, _ in near), *labelled])
    for each in names_to_write:
        bold = each == word or each in dict(near)
        _write(ax, each, points[each], bold, taken, chosen=each == word)
    ax.set(xticks=[], yticks=[], title=f"“{word}” and its nearest words")
    ax.spines[:].set_visible(False)  # neither axis means anything
    ax.grid(False)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _write(
    ax: Axes, text: str, place: tuple[float, float], bold: bool, taken: list[Bbox], chosen: bool
) -> None:
    """Write a label at the first of several places around its point that touches no other label."""
    size = 9.0 if bold else 7.5
    points_to_pixels = ax.figure.dpi / 72
    width = (0.72 * len(text) + 0.8) * size * points_to_pixels
    height = 1.5 * size * points_to_pixels
    x, y = ax.transData.transform(place)
    for distance in range(4, 90, 6):
        for right, up in ((1, 0.3), (1, 1), (1, -1), (-1, 0.3), (-1, 1), (-1, -1), (0, 1), (0, -1)):
            left = x + right * distance - (width if right < 0 else width / 2 if right == 0 else 0)
            bottom = y + up * distance - height / 2
            box = Bbox.from_bounds(left, bottom, width, height)
            if not any(box.overlaps(other) for other in taken):
                break
        else:
            continue
        break
    taken.append(box)
    corner_x, corner_y = ax.transData.inverted().transform((left, bottom))
    ax.annotate(
        text,
        place,
        xytext=(corner_x, corner_y),
        fontsize=size,
        weight="bold" if bold else "normal",
        color=PALETTE["vermillion" if chosen else "black" if bold else "grey"],
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        zorder=4,
        arrowprops={"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 0, "shrinkB": 0}
        if bold
        else None,
    )


class WordMap(anywidget.AnyWidget):
    """Words as dots in the plane; choosing one draws lines to its nearest words and lists them.

    A word is chosen by clicking its dot, by typing it, or by clicking a neighbour in the list. The wheel
    zooms, dragging moves the map.

    Args:
        points: each word's place in the plane.
        groups: the group of some words, at most six groups.
        neighbours: gives a word's nearest words with their cosines, nearest first; it may name words
            that have no point.
        word: the word chosen at first.

    Raises:
        ValueError: ``word`` has no point.

    """

    _esm = """
    const NS = "http://www.w3.org/2000/svg";
    function node(name, attributes, parent) {
      const it = document.createElementNS(NS, name);
      for (const key in attributes) it.setAttribute(key, attributes[key]);
      if (parent) parent.append(it);
      return it;
    }
    function render({ model, el }) {
      el.classList.add("course-word-map");
      const words = model.get("words"), xs = model.get("xs"), ys = model.get("ys");
      const group = model.get("group"), colours = model.get("colours"), names = model.get("names");
      const place = new Map(words.map((word, i) => [word, i]));
      const bar = document.createElement("div"); bar.className = "bar";
      const box = document.createElement("input"), list = document.createElement("datalist");
      list.id = "words-" + Math.random().toString(36).slice(2);
      box.setAttribute("list", list.id);
      box.setAttribute("aria-label", "a word to look up");
      box.placeholder = "type a word";
      list.append(...words.map((word) => Object.assign(document.createElement("option"), { value: word })));
      const note = document.createElement("span"); note.setAttribute("aria-live", "polite");
      const whole = Object.assign(document.createElement("button"), { textContent: "whole map" });
      bar.append(box, list, whole, note);
      const body = document.createElement("div"); body.className = "body";
      const map = node("svg", { role: "img", "aria-label": "a map of words; choose one in the box above" });
      const side = document.createElement("div"); side.className = "side";
      body.append(map, side);
      const key = document.createElement("div"); key.className = "key";
      names.forEach((name, i) => {
        const item = document.createElement("span");
        const dot = document.createElement("i"); dot.style.background = colours[i];
        item.append(dot, name); key.append(item);
      });
      el.append(bar, body, key);
      const lines = node("g", {}, map), dots = node("g", {}, map), labels = node("g", {}, map);
      let view = { x: -0.04, y: -0.04, size: 1.08 };
      const circles = words.map((word, i) => {
        const circle = node("circle", { cx: xs[i], cy: 1 - ys[i], fill: colours[group[i]] }, dots);
        node("title", {}, circle).textContent = word;
        circle.addEventListener("click", () => choose(word));
        return circle;
      });
      function choose(word) { model.set("word", word); model.save_changes(); }
      box.addEventListener("keydown", (event) => event.stopPropagation());
      box.addEventListener("change", () => choose(box.value.trim().toLowerCase()));
      whole.addEventListener("click", () => { view = { x: -0.04, y: -0.04, size: 1.08 }; frame(); });
      function label(word, bold) {
        const i = place.get(word);
        if (i === undefined) return;
        const text = node("text", { x: xs[i] + 0.008 * view.size, y: 1 - ys[i] - 0.006 * view.size,
          "font-size": (bold ? 0.028 : 0.022) * view.size }, labels);
        text.textContent = word;
        if (bold) text.setAttribute("font-weight", "bold");
      }
      function frame() {
        map.setAttribute("viewBox", `${view.x} ${view.y} ${view.size} ${view.size}`);
        circles.forEach((circle, i) =>
          circle.setAttribute("r", (words[i] === model.get("shown") ? 0.011 : 0.006) * view.size));
        lines.replaceChildren(); labels.replaceChildren();
        const word = model.get("shown"), near = model.get("near");
        const from = place.get(word);
        near.forEach(([other]) => {
          const to = place.get(other);
          if (from === undefined || to === undefined) return;
          node("line", { x1: xs[from], y1: 1 - ys[from], x2: xs[to], y2: 1 - ys[to],
            "stroke-width": 0.0025 * view.size }, lines);
        });
        near.forEach(([other]) => label(other, false));
        label(word, true);
      }
      function paint() {
        note.textContent = model.get("problem");
        const near = model.get("near");
        const title = document.createElement("b"); title.textContent = model.get("shown");
        side.replaceChildren(title, ...near.map(([other, cosine]) => {
          const button = document.createElement("button");
          const number = document.createElement("small"); number.textContent = cosine.toFixed(2);
          button.append(other, number);
          button.addEventListener("click", () => choose(other));
          return button;
        }));
        frame();
      }
      map.addEventListener("wheel", (event) => {
        event.preventDefault();
        const area = map.getBoundingClientRect(), factor = event.deltaY > 0 ? 1.15 : 1 / 1.15;
        const size = Math.min(1.08, Math.max(0.08, view.size * factor));
        const u = (event.clientX - area.left) / area.width, v = (event.clientY - area.top) / area.height;
        view = { x: view.x + u * (view.size - size), y: view.y + v * (view.size - size), size };
        frame();
      }, { passive: false });
      let held = null;
      map.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, view }; });
      const move = (event) => {
        if (!held) return;
        const width = map.getBoundingClientRect().width;
        view = { ...view, x: held.view.x - (event.clientX - held.x) / width * view.size,
          y: held.view.y - (event.clientY - held.y) / width * view.size };
        frame();
      };
      const release = () => { held = null; };
      window.addEventListener("pointermove", move);
      window.addEventListener("pointerup", release);
      model.on("change:near", paint);
      model.on("change:shown", paint);
      model.on("change:problem", paint);
      paint();
      return () => {
        window.removeEventListener("pointermove", move);
        window.removeEventListener("pointerup", release);
      };
    }
    export default { render };
    """
    _css = """
    .course-word-map .bar { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-bottom: 4px; }
    .course-word-map .bar input { padding: 4px; font-size: 1em; width: 14em; }
    .course-word-map .body { display: flex; flex-wrap: wrap; gap: 10px; }
    .course-word-map svg { width: 34em; max-width: 100%; aspect-ratio: 1; border: 1px solid #999;
      border-radius: 4px; touch-action: none; cursor: grab; background: white; }
    .course-word-map circle { cursor: pointer; fill-opacity: 0.85; }
    .course-word-map line { stroke: #1A1A1A; }
    .course-word-map text { fill: #1A1A1A; pointer-events: none; }
    .course-word-map .side { display: flex; flex-direction: column; gap: 2px; width: 12em; }
    .course-word-map .side button { display: flex; justify-content: space-between; border: 1px solid #999;
      border-radius: 4px; background: none; color: inherit; padding: 3px 8px; font-size: 1em; cursor: pointer; }
    .course-word-map .key { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 4px; }
    .course-word-map .key i { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%;
      margin-right: 4px; }
    """
    words: Any = traitlets.List().tag(sync=True)
    xs: Any = traitlets.List().tag(sync=True)
    ys: Any = traitlets.List().tag(sync=True)
    group: Any = traitlets.List().tag(sync=True)
    names: Any = traitlets.List().tag(sync=True)
    colours: Any = traitlets.List().tag(sync=True)
    word = traitlets.Unicode("").tag(sync=True)
    shown = traitlets.Unicode("").tag(sync=True)
    near: Any = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        points: Mapping[str, tuple[float, float]],
        groups: Mapping[str, str],
        neighbours: Neighbours,
        word: str,
        **rest: Any,
    ) -> None:
        if word not in points:
            raise ValueError(f"“{word}” has no point on the map: choose one of its words.")
        names = list(dict.fromkeys(groups.values()))
        columns = [_to_unit([point[axis] for point in points.values()]) for axis in (0, 1)]
        super().__init__(
            words=list(points),
            xs=columns[0],
            ys=columns[1],
            names=[*names, _REST],
            colours=[*CYCLE[: len(names)], "#BBBBBB"],
            group=[names.index(groups[w]) if w in groups else len(names) for w in points],
            **rest,
        )
        self._neighbours = neighbours
        self.observe(self._choose, names="word")
        self.word = word

    def _choose(self, change: Any) -> None:
        try:
            near = [[other, float(cosine)] for other, cosine in self._neighbours(self.word)]
        except KeyError:
            self.problem = f"“{self.word}” is not a word that the model has seen."
            return
        with self.hold_sync():
            self.problem = ""
            self.shown = self.word
            self.near = near


def _to_unit(values: Sequence[float]) -> list[float]:
    """Move numbers linearly to 0 … 1."""
    low, high = min(values), max(values)
    return [round((value - low) / ((high - low) or 1.0), 4) for value in values]
