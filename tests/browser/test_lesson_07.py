"""Lesson 07 in JupyterLab, under a learner's hands: it runs, the views answer, the checks speak."""

import pytest
from lab_in_browser import SECOND, NotebookPage
from playwright.sync_api import Locator, expect

from course_lib.exercises.spec import find
from course_lib.publishing.build import compose_lesson
from course_lib.publishing.lessons import select

pytestmark = pytest.mark.browser

GREEN, VERMILLION = "rgb(0, 158, 115)", "rgb(213, 94, 0)"


@pytest.fixture(scope="module")
def solution(request: pytest.FixtureRequest) -> str:
    """The published solution of the exercise `attention`."""
    (lesson,) = select(request.config.rootpath, ["07"])
    cells = compose_lesson(lesson).solution.cells
    return next(cell.source for cell in cells if cell.id == "exercise-attention")


def answered(lesson_07: NotebookPage, source: str) -> Locator:
    """Type an answer to `attention`, run it, run its check, and return the card that the check shows."""
    lesson_07.write("exercise-attention", source)
    lesson_07.run("exercise-attention")
    checked = lesson_07.run("check-attention")
    return checked.locator(".jp-OutputArea-output [role=status]").first


def test_run_all_comes_to_the_end_without_an_error(lesson_07):
    code = [cell for cell in lesson_07.cells() if cell["cell_type"] == "code"]
    not_run = [cell["id"] for cell in code if cell["execution_count"] is None]
    wrong = {
        cell["id"]: output["evalue"]
        for cell in code
        for output in cell["outputs"]
        if output["output_type"] == "error"
    }
    assert not_run == []
    assert wrong == {}
    assert lesson_07.errors == []


def test_the_slider_moved_by_the_keyboard_changes_the_picture(lesson_07):
    cell = lesson_07.cell(lesson_07.id_of("widgets.explorer(draw_softmax"))
    handle, readout = cell.locator(".noUi-handle"), cell.locator(".widget-readout")
    picture = cell.locator("img.widget-image")
    expect(readout).to_have_text("4")
    seen = [_bytes(picture)]
    for value, key in (("5", "ArrowRight"), ("6", "ArrowRight"), ("5", "ArrowLeft")):
        handle.press(key)
        expect(readout).to_have_text(value)
        lesson_07.page.wait_for_function(
            "([picture, old]) => picture.src !== old",
            arg=[picture.element_handle(), seen[-1][0]],
        )
        seen.append(_bytes(picture))
    pictures = [data for _, data in seen]
    assert len(set(pictures)) == 3
    assert pictures[1] == pictures[3]
    assert all(data.startswith("137,80,78,71,") for data in pictures)  # they are PNGs


def _bytes(picture: Locator) -> tuple[str, str]:
    """Return a picture's address, and its bytes as text, once it is decoded."""
    return tuple(
        picture.evaluate(
            """async (picture) => {
              await picture.decode();
              const data = await (await fetch(picture.src)).arrayBuffer();
              return [picture.src, new Uint8Array(data).join(',')];
            }"""
        )
    )


def attention_view(lesson_07: NotebookPage) -> Locator:
    cell = lesson_07.cell(lesson_07.id_of("widgets.AttentionView("))
    return cell.locator(".course-attention")


def test_pointing_at_a_word_shows_whom_it_asks(lesson_07):
    view = attention_view(lesson_07)
    words, note = view.locator(".row button"), view.locator(".note")
    sentence = view.locator("input").input_value().split()
    assert len(sentence) >= 4
    expect(words).to_have_text([word + "\u00a0" for word in sentence])  # no weights yet
    expect(note).to_have_text("Point at a word.")
    shown = []
    for number in (0, 3):
        words.nth(number).hover()
        expect(note).to_contain_text(f"{sentence[number]} is hidden. Guesses: ")
        weights = [float(text) for text in view.locator(".row small").all_inner_texts()]
        assert sum(weights) == pytest.approx(1, abs=0.005 * len(weights))  # two decimals each
        shown.append((weights, note.inner_text()))
    assert shown[0] != shown[1]
    words.nth(1).focus()  # what a pointer can do, the Tab key can
    expect(note).to_contain_text(f"{sentence[1]} is hidden. Guesses: ")


def test_typing_another_sentence_shows_its_words(lesson_07):
    view = attention_view(lesson_07)
    box, words, note = view.locator("input"), view.locator(".row button"), view.locator(".note")
    box.click()
    lesson_07.page.keyboard.press("Control+A")
    lesson_07.page.keyboard.type("the miller sees the baker .")
    expect(words).to_have_count(6)
    expect(words.nth(1)).to_contain_text("miller")
    words.nth(1).hover()
    expect(note).to_contain_text("miller is hidden.")
    box.fill("one")
    expect(note).to_contain_text("Type 2 to ")


def test_the_right_answer_turns_its_check_green(lesson_07, solution):
    card = answered(lesson_07, solution)
    expect(card).to_contain_text("✓ attention: right")
    assert card.evaluate("card => getComputedStyle(card).borderLeftColor") == GREEN


def test_a_wrong_answer_is_told_its_mistake(lesson_07, solution):
    wrong = solution.replace("/ math.sqrt(q.shape[-1])", "/ q.shape[-1]")
    assert wrong != solution
    card = answered(lesson_07, wrong)
    says = next(each.says for each in find("attention").mistakes if each.name == "scaled by d")
    expect(card).to_contain_text("✗ attention: not right yet")
    expect(card).to_contain_text(says)
    assert card.evaluate("card => getComputedStyle(card).borderLeftColor") == VERMILLION
    card.locator("summary").first.click()
    expect(card.locator("details pre").first).to_be_visible(timeout=5 * SECOND)


def test_the_next_hint_comes_when_asked_for(lesson_07):
    """A cell of the learner's own, made and run by the keyboard."""
    lesson_07.cell("check-attention").locator(".cm-content").first.click()
    page = lesson_07.page
    before = len(lesson_07.cells())
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.insert_text('hint("attention")')
    page.keyboard.press("Control+Enter")
    position = lesson_07.index("check-attention") + 1
    card = page.locator(f'.jp-Cell[data-windowed-list-index="{position}"] [role=status]')
    expect(card).to_contain_text("Hint 1 of ")
    assert len(lesson_07.cells()) == before + 1
