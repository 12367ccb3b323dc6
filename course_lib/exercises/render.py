"""How feedback looks: a card in HTML, and the same as plain text where there is no browser."""

from html import escape
from typing import Literal

Mood = Literal["good", "bad", "neutral"]

# Okabe–Ito bluish green and vermillion, and a grey: told apart by every eye; the sign says it again.
_COLOURS = {"good": "#009E73", "bad": "#D55E00", "neutral": "#7A7A7A"}
_SIGNS = {"good": "✓", "bad": "✗", "neutral": "○"}


def card(
    mood: Mood, title: str, lines: list[str], details: list[tuple[str, str]] | None = None
) -> None:
    """Show a card: a title with a sign, lines of text, and parts that unfold.

    Args:
        mood: colour and sign.
        title: one short line.
        lines: paragraphs; text between backticks is shown as code.
        details: pairs of a heading and preformatted text, closed at first.

    """
    details = details or []
    text = "\n".join(
        [f"{_SIGNS[mood]} {title}"]
        + [f"  {line}" for line in lines]
        + [f"  {head}\n" + _indented(body) for head, body in details]
    )
    colour = _COLOURS[mood]
    parts = [
        f'<div role="status" style="border-left:5px solid {colour};padding:6px 12px;margin:4px 0;'
        'background:var(--jp-layout-color1,transparent);max-width:60em">',
        f'<div style="font-weight:600;color:{colour}">{_SIGNS[mood]} {_inline(title)}</div>',
    ]
    parts += [f'<div style="margin-top:3px">{_inline(line)}</div>' for line in lines]
    for head, body in details:
        parts.append(
            f'<details style="margin-top:3px"><summary>{_inline(head)}</summary>'
            f'<pre style="margin:4px 0 0 1em;white-space:pre-wrap">{escape(body)}</pre></details>'
        )
    parts.append("</div>")
    show_html("".join(parts), text)


def show_html(html: str, text: str) -> None:
    """Display HTML with a text for places that cannot show it; print the text outside IPython."""
    try:
        from IPython import get_ipython
    except ImportError:
        get_ipython = lambda: None  # noqa: E731
    if get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    display({"text/html": html, "text/plain": text}, raw=True)


def _inline(text: str) -> str:
    pieces = escape(text, quote=False).split("`")
    return "".join(
        f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces)
    )


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.splitlines())
