"""How lesson 05's exercises are called."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from course_lib.exercises.probing import gradients


def _several(name: str, returned: Any, what: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the things that ``name`` must return, or say what it returned instead."""
    if returned is None:
        raise TypeError(f"{name} returned None: is there a `return` at its end?")
    if not isinstance(returned, tuple) or len(returned) != len(what):
        raise TypeError(
            f"{name} returned a {type(returned).__name__} and should return {len(what)} things: {', '.join(what)}."
        )
    return returned


def rnn_step(
    function: Callable[..., Any],
    x: Tensor,
    h: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b: Tensor,
    cotangent: Tensor,
) -> dict[str, Any]:
    """Call ``rnn_step(x, h, w_x, w_h, b)`` and return the state and gradients."""
    wrt = {"x": x, "h": h, "w_x": w_x, "w_h": w_h, "b": b}
    wrt = {name: tensor.requires_grad_() for name, tensor in wrt.items()}
    state = function(*wrt.values())
    found = {"state": state}
    if isinstance(state, Tensor) and state.shape == cotangent.shape:
        found |= gradients(state, cotangent, wrt)
    return found


def bptt_grad(
    function: Callable[..., Any],
    x: Tensor,
    h0: Tensor,
    h: Tensor,
    grad_h: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b: Tensor,
) -> dict[str, Any]:
    """Call ``bptt_grad(x, h0, h, grad_h, w_x, w_h)`` and name its five results; it does not need ``b``."""
    names = ("x", "h0", "w_x", "w_h", "b")
    what = tuple(f"gradient of {name}" for name in names)
    return dict(zip(what, _several("bptt_grad", function(x, h0, h, grad_h, w_x, w_h), what)))


def clip_gradients(
    function: Callable[..., Any], gradients: list[Tensor], max_norm: float
) -> dict[str, Any]:
    """Call ``clip_gradients(gradients, max_norm)`` and name its two results."""
    what = ("clipped gradients", "norm")
    clipped, norm = _several("clip_gradients", function(gradients, max_norm), what)
    return {"clipped gradients": clipped, "norm": norm}


def lstm_step(
    function: Callable[..., Any],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b: Tensor,
    cotangents: tuple[Tensor, Tensor],
) -> dict[str, Any]:
    """Call ``lstm_step(x, h, c, w_x, w_h, b)`` and return output, memory and gradients."""
    wrt = {"x": x, "h": h, "c": c, "w_x": w_x, "w_h": w_h, "b": b}
    wrt = {name: tensor.requires_grad_() for name, tensor in wrt.items()}
    what = ("output h", "memory c")
    found = dict(zip(what, _several("lstm_step", function(*wrt.values()), what)))
    if all(isinstance(each, Tensor) and each.shape == h.shape for each in found.values()):
        total = found["output h"] * cotangents[0] + found["memory c"] * cotangents[1]
        found |= gradients(total, total.new_ones(total.shape), wrt)
    return found
