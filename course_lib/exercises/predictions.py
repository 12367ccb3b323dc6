"""A question that the learner answers before an experiment runs."""

from collections.abc import Sequence
from html import escape

from course_lib.exercises import progress
from course_lib.exercises.render import show_html
from course_lib.runtime import CourseError, current


def predict(name: str, question: str, options: Sequence[str], answer: int, because: str) -> None:
    """Ask ``question``; the choice is kept with the learner's progress, the answer unfolds on demand.

    In JupyterLab the options are buttons; on a static page the question and the folded answer stand alone.

    Args:
        name: names the prediction in the lesson.
        question: the question.
        options: at least two answers.
        answer: the position of the right one, from 0.
        because: one or two sentences that explain it.

    Raises:
        CourseError: fewer than two options, or ``answer`` is not the position of one.

    """
    if len(options) < 2 or not 0 <= answer < len(options):
        raise CourseError(
            f'The prediction "{name}" needs two options or more and an answer among them.'
        )
    lesson = current().lesson
    folded = (
        "<details><summary>After the experiment: open to compare</summary>"
        f"<div style='margin:4px 0 0 1em'><b>{escape(options[answer])}.</b> {escape(because)}</div></details>"
    )
    static = (
        f"<div><b>Predict.</b> {escape(question)}<ul>"
        + "".join(f"<li>{escape(option)}</li>" for option in options)
        + f"</ul>{folded}</div>"
    )
    text = "\n".join(
        [
            f"Predict. {question}",
            *(f"  ({chr(97 + i)}) {option}" for i, option in enumerate(options)),
        ]
    )
    try:
        from IPython import get_ipython

        interactive = get_ipython() is not None and hasattr(get_ipython(), "kernel")
    except ImportError:
        interactive = False
    if not interactive:
        show_html(static, text)
        return

    import ipywidgets as widgets
    from IPython.display import display

    heading = widgets.HTML(f"<b>Predict.</b> {escape(question)}")
    earlier = progress.read().get(f"{lesson:02d}/predict-{name}", {}).get("choice")
    buttons = widgets.RadioButtons(
        options=list(enumerate_options(options)),
        index=earlier if isinstance(earlier, int) and 0 <= earlier < len(options) else None,
        layout=widgets.Layout(width="auto"),
    )
    reply = widgets.HTML("")

    def chosen(change: dict[str, int]) -> None:
        progress.record(
            lesson, f"predict-{name}", choice=change["new"], right=change["new"] == answer
        )
        reply.value = (
            f"You said: <i>{escape(options[change['new']])}</i>. Now run the experiment.{folded}"
        )

    buttons.observe(chosen, names="value")
    if buttons.index is not None:
        reply.value = f"You said: <i>{escape(options[buttons.index])}</i>.{folded}"
    box = widgets.VBox([heading, buttons, reply])
    bundle = box._repr_mimebundle_()
    assert isinstance(bundle, dict)
    display({**bundle, "text/html": static, "text/plain": text}, raw=True)


def enumerate_options(options: Sequence[str]) -> list[tuple[str, int]]:
    """Return the options as (label, position) pairs, as ipywidgets wants them."""
    return [(option, index) for index, option in enumerate(options)]
