"""Lesson 05, recurrent networks: what is drawn, what is right, what often goes wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.probes import lesson_05 as probes
from course_lib.exercises.probing import gradients
from course_lib.exercises.spec import Case, Exercise, Mistake
from course_lib.models import recurrent as finished

FINISHED = "course_lib.models.recurrent"
LIBRARY = (
    "torch.nn.RNN",
    "torch.nn.RNNCell",
    "torch.nn.LSTM",
    "torch.nn.LSTMCell",
    "torch.nn.GRU",
    "torch.nn.GRUCell",
    "torch.rnn_tanh",
    "torch.rnn_tanh_cell",
    "torch.lstm",
    "torch.lstm_cell",
    FINISHED,
)


def _in_another_layout(tensor: Tensor) -> Tensor:
    """Return the same numbers in another memory layout."""
    return tensor.transpose(0, -1).contiguous().transpose(0, -1)


# --- rnn_step --------------------------------------------------------------------------------


def draw_rnn_step(seed: int) -> list[Case]:
    """Draw inputs, states and weights of many shapes."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        d_in: int,
        d: int,
        dtype: torch.dtype = torch.float64,
        scale: float = 1.0,
    ) -> Case:
        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        inputs = {"x": normal(batch, d_in) * scale, "h": normal(batch, d).tanh()}
        inputs |= {"w_x": normal(d_in, d), "w_h": normal(d, d) / d**0.5, "b": normal(d)}
        return Case(label, inputs | {"cotangent": normal(batch, d)})

    strided = case("non-contiguous tensors", 4, 3, 5)
    for name in ("x", "h", "w_x", "w_h"):
        strided.inputs[name] = _in_another_layout(strided.inputs[name])
    return [
        case("one sequence, widths of one", 1, 1, 1),
        case("a batch of one, odd widths", 1, 3, 5),
        case("a batch, float32", 3, 4, 2, torch.float32),
        case("input as wide as the state", 4, 6, 6),
        case("large inputs, where tanh saturates", 2, 3, 4, scale=50.0),
        strided,
    ]


def oracle_rnn_step(
    x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor, cotangent: Tensor
) -> dict[str, Tensor]:
    """Ask PyTorch's nn.RNNCell, in float64."""
    wrt = {"x": x, "h": h, "w_x": w_x, "w_h": w_h, "b": b}
    wrt = {name: each.detach().double().requires_grad_() for name, each in wrt.items()}
    given, before, from_x, from_h, bias = wrt.values()
    state = torch.rnn_tanh_cell(given, before, from_x.T, from_h.T, bias, torch.zeros_like(bias))
    found = {"state": state, **gradients(state, cotangent.double(), wrt)}
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


def no_tanh(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Stay linear."""
    return x @ w_x + h @ w_h + b


def sigmoid_for_tanh(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Squash to 0 … 1."""
    return (x @ w_x + h @ w_h + b).sigmoid()


def state_ignored(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Forget the past."""
    return (x @ w_x + b).tanh()


def input_ignored(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Forget what is read."""
    return (h @ w_h + b).tanh()


def bias_ignored(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Forget the bias."""
    return (x @ w_x + h @ w_h).tanh()


def recurrent_transposed(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Multiply by the transposed recurrent matrix."""
    return (x @ w_x + h @ w_h.T + b).tanh()


def tanh_of_each(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Squash the two parts one by one."""
    return (x @ w_x + b).tanh() + (h @ w_h).tanh()


def state_added(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Tensor:
    """Keep the old state in the sum."""
    return h + (x @ w_x + h @ w_h + b).tanh()


RNN_STEP = Exercise(
    name="rnn_step",
    lesson=5,
    points=2,
    probe=probes.rnn_step,
    draw=draw_rnn_step,
    oracle=oracle_rnn_step,
    finished=(finished.rnn_step,),
    forbidden=LIBRARY,
    minutes=6,
    difficulty=1,
    mistakes=(
        Mistake(
            "no tanh",
            "Your step is linear: take the tanh of the sum.",
            (no_tanh,),
        ),
        Mistake(
            "sigmoid for tanh",
            "You squash with the sigmoid: here it is tanh, whose values have both signs.",
            (sigmoid_for_tanh,),
        ),
        Mistake(
            "state ignored",
            "You never use `h`: without it nothing is remembered.",
            (state_ignored,),
        ),
        Mistake(
            "input ignored",
            "You never use `x`: the step must read.",
            (input_ignored,),
        ),
        Mistake("bias ignored", "You left out the bias `b`.", (bias_ignored,)),
        Mistake(
            "recurrent matrix transposed",
            "You multiplied by the transpose of `w_h`: states are rows, so it is `h @ w_h`.",
            (recurrent_transposed,),
        ),
        Mistake(
            "tanh of each part",
            "You took the tanh of the two parts one by one: add first, then take one tanh.",
            (tanh_of_each,),
        ),
        Mistake(
            "old state added",
            "You added the old state to the new one: it enters through `h @ w_h` alone.",
            (state_added,),
        ),
    ),
    hints=(
        "One row of `x` is one sequence's input, one row of `h` its state. Rows are multiplied by a matrix from "
        "the right: (B, d_in) @ (d_in, d) gives (B, d).",
        "Add three things of shape (B, d), where the bias (d,) broadcasts: what the input says, what the state "
        "says, the bias.",
        "`torch.tanh(… @ w_x + … @ w_h + b)`.",
    ),
)

# --- bptt_grad -------------------------------------------------------------------------------


def draw_bptt(seed: int) -> list[Case]:
    """Draw sequences with their states, and a gradient for each state."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shape: tuple[int, int, int],
        d: int,
        dtype: torch.dtype = torch.float64,
        last_only: bool = False,
        from_zero: bool = False,
    ) -> Case:
        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=g, dtype=torch.float64)

        batch, n, d_in = shape
        x, h0 = normal(batch, n, d_in), normal(batch, d).tanh() * (not from_zero)
        w_x, w_h, b = normal(d_in, d) / d_in**0.5, normal(d, d) / d**0.5, 0.3 * normal(d)
        states, h = [], h0
        for t in range(n):
            h = torch.tanh(x[:, t] @ w_x + h @ w_h + b)
            states.append(h)
        grad_h = normal(batch, n, d)
        if last_only:
            grad_h[:, :-1] = 0
        inputs = {"x": x, "h0": h0, "h": torch.stack(states, dim=1), "grad_h": grad_h}
        inputs |= {"w_x": w_x, "w_h": w_h, "b": b}
        return Case(label, {name: each.to(dtype) for name, each in inputs.items()})

    strided = case("non-contiguous tensors", (3, 4, 5), 2)
    for name, each in strided.inputs.items():
        strided.inputs[name] = _in_another_layout(each)
    return [
        case("one step", (1, 1, 2), 2),
        case("two steps", (1, 2, 1), 3),
        case("a batch, several steps, odd widths", (3, 5, 3), 7),
        case("a loss at the last step only", (2, 6, 4), 4, last_only=True),
        case("from a state of zeros, float32", (4, 4, 2), 5, torch.float32, from_zero=True),
        strided,
    ]


def oracle_bptt(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor
) -> dict[str, Tensor]:
    """Ask what stands behind PyTorch's nn.RNN, and autograd, in float64."""
    wrt = {"x": x, "h0": h0, "w_x": w_x, "w_h": w_h, "b": b}
    wrt = {name: each.detach().double().requires_grad_() for name, each in wrt.items()}
    weights = [wrt["w_x"].T, wrt["w_h"].T, wrt["b"], torch.zeros_like(wrt["b"])]
    start = wrt["h0"][None]  # (layers, B, d)
    # The options: with biases, one layer, no dropout, training, one direction, batch first.
    states, _ = torch.rnn_tanh(wrt["x"], start, weights, True, 1, 0.0, True, False, True)
    found = gradients(states, grad_h.double(), wrt)
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


Five = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _bptt(
    x: Tensor,
    h0: Tensor,
    h: Tensor,
    grad_h: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    *,
    slope: Callable[[Tensor, Tensor], Tensor] = lambda now, before: 1 - now**2,
    back: Callable[[Tensor, Tensor], Tensor] = lambda delta, w_h: delta @ w_h.T,
    flows: bool = True,
    direct: bool = True,
    previous: bool = True,
    known_start: bool = True,
    wrapped: bool = False,
    accumulate: bool = True,
    keep: bool = True,
) -> Five:
    """Backpropagate through time, with one step of it replaced by a wrong one."""
    grad_x, grad_w_x, grad_w_h = torch.zeros_like(x), torch.zeros_like(w_x), torch.zeros_like(w_h)
    grad_b = torch.zeros_like(w_h[0])
    later = torch.zeros_like(h0)
    last = x.shape[1] - 1
    for t in reversed(range(last + 1)):
        start = h0 if known_start else torch.zeros_like(h0)
        before = h[:, t - 1] if t > 0 or wrapped else start
        arriving = later if flows else torch.zeros_like(later)
        if direct or t == last:
            arriving = arriving + grad_h[:, t]
        delta = arriving * slope(h[:, t], before)
        grad_x[:, t] = delta @ w_x.T
        parts = (
            x[:, t].T @ delta,
            (before if previous else h[:, t]).T @ delta,
            delta.sum(dim=0),
        )
        if accumulate:
            grad_w_x, grad_w_h, grad_b = (
                a + p for a, p in zip((grad_w_x, grad_w_h, grad_b), parts)
            )
        else:
            grad_w_x, grad_w_h, grad_b = parts
        # Wrong where `keep` is False: what came from later steps is sent on without the tanh.
        later = back(delta if keep else arriving, w_h)
    return grad_x, later, grad_w_x, grad_w_h, grad_b


def no_recurrence(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Send nothing back to earlier steps."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, flows=False)


def last_loss_only(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Use the direct gradient of the last state alone."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, direct=False)


def no_tanh_slope(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Forget the derivative of tanh."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, slope=lambda now, before: torch.ones_like(now))


def slope_at_previous(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Take the derivative of tanh at the state before."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, slope=lambda now, before: 1 - before**2)


def tanh_twice(x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor) -> Five:
    """Put the state through tanh once more."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, slope=lambda now, before: 1 - now.tanh() ** 2)


def sigmoid_slope(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Use the sigmoid's derivative."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, slope=lambda now, before: now * (1 - now))


def back_not_transposed(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Go back through w_h as one goes forward."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, back=lambda delta, w: delta @ w)


def current_state_for_previous(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Multiply by the state after the step in the gradient of w_h."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, previous=False)


def start_forgotten(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Take zeros for the state before the first step."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, known_start=False)


def last_state_first(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Take h[:, -1] for the state before the first step."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, wrapped=True)


def outer_product_turned(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Return the outer products of w_h the wrong way round."""
    grad_x, grad_h0, grad_w_x, grad_w_h, grad_b = _bptt(x, h0, h, grad_h, w_x, w_h)
    return grad_x, grad_h0, grad_w_x, grad_w_h.T, grad_b


def not_accumulated(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Overwrite the weights' gradients at each step."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, accumulate=False)


def first_state_not_reached(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Return the gradient of h_1 for that of h_0."""
    grad_x, _, *weights = _bptt(x, h0, h, grad_h, w_x, w_h)
    later = torch.zeros_like(h0)
    for t in reversed(range(1, x.shape[1])):
        later = ((grad_h[:, t] + later) * (1 - h[:, t] ** 2)) @ w_h.T
    grad_w_x, grad_w_h, grad_b = weights
    return grad_x, grad_h[:, 0] + later, grad_w_x, grad_w_h, grad_b


def weights_swapped(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Return the gradient of w_h before that of w_x."""
    grad_x, grad_h0, grad_w_x, grad_w_h, grad_b = _bptt(x, h0, h, grad_h, w_x, w_h)
    return grad_x, grad_h0, grad_w_h, grad_w_x, grad_b


def sent_on_before_tanh(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Send back what arrived, not what passed the tanh."""
    return _bptt(x, h0, h, grad_h, w_x, w_h, keep=False)


def averaged_over_batch(
    x: Tensor, h0: Tensor, h: Tensor, grad_h: Tensor, w_x: Tensor, w_h: Tensor
) -> Five:
    """Take means over the batch for the weights."""
    grad_x, grad_h0, *weights = _bptt(x, h0, h, grad_h, w_x, w_h)
    grad_w_x, grad_w_h, grad_b = (each / len(x) for each in weights)
    return grad_x, grad_h0, grad_w_x, grad_w_h, grad_b


BPTT_GRAD = Exercise(
    name="bptt_grad",
    lesson=5,
    points=5,
    probe=probes.bptt_grad,
    draw=draw_bptt,
    oracle=oracle_bptt,
    finished=(finished.bptt_grad,),
    forbidden=(*LIBRARY, "torch.autograd", "torch.Tensor.backward", "torch.func"),
    minutes=25,
    difficulty=4,
    mistakes=(
        Mistake(
            "nothing sent back",
            "Each of your states gets only its own loss's gradient: add what the later steps send back through w_h.",
            (no_recurrence,),
        ),
        Mistake(
            "last loss only",
            "You use the direct gradient of the last state alone: each step adds its own `grad_h[:, t]`.",
            (last_loss_only,),
        ),
        Mistake(
            "no derivative of tanh",
            "You left out the derivative of tanh: multiply by 1 − h_t² before going on to weights and earlier steps.",
            (no_tanh_slope,),
        ),
        Mistake(
            "derivative at the state before",
            "You took tanh's derivative at h_{t−1}: step t made h_t, so it is 1 − h_t².",
            (slope_at_previous,),
        ),
        Mistake(
            "tanh twice",
            "You put the state through tanh again: h_t is the tanh already, so its derivative is 1 − h_t².",
            (tanh_twice,),
        ),
        Mistake(
            "sigmoid's derivative",
            "h (1 − h) is the sigmoid's derivative: that of tanh is 1 − h².",
            (sigmoid_slope,),
        ),
        Mistake(
            "not transposed on the way back",
            "On the way back you multiplied by w_h: forward it is h @ w_h, so backward it is delta @ w_h.T.",
            (back_not_transposed,),
        ),
        Mistake(
            "state after for state before",
            "In the gradient of w_h you used h_t: step t multiplied the state *before* it, h_{t−1}, by w_h.",
            (current_state_for_previous,),
        ),
        Mistake(
            "first state forgotten",
            "At the first step you took zeros for the state before: it is `h0`.",
            (start_forgotten,),
        ),
        Mistake(
            "last state before the first",
            "At t = 0 `h[:, t - 1]` is `h[:, -1]`, the *last* state: before the first step stands `h0`.",
            (last_state_first,),
        ),
        Mistake(
            "outer product turned",
            "You turned the outer product for w_h: it is h_{t−1} as a column times δ_t as a row, `before.T @ delta`.",
            (outer_product_turned,),
        ),
        Mistake(
            "first state not reached",
            "For h0 you returned the gradient of h_1: it has one more step to go, δ_1 W_hᵀ.",
            (first_state_not_reached,),
        ),
        Mistake(
            "weights swapped",
            "You returned the gradient of w_h before that of w_x: the order is x, h0, w_x, w_h, b.",
            (weights_swapped,),
        ),
        Mistake(
            "not accumulated",
            "Your weights' gradients are those of one step: the same weights serve every step, so add up.",
            (not_accumulated,),
        ),
        Mistake(
            "sent back before tanh",
            "You sent back what arrived at the state: multiply by 1 − h_t² first, then by w_h.T.",
            (sent_on_before_tanh,),
        ),
        Mistake(
            "averaged over the batch",
            "You averaged the weights' gradients over the batch: grad_h already says how the loss counts each "
            "sequence, so sum.",
            (averaged_over_batch,),
        ),
    ),
    hints=(
        "Walk from the last step to the first: `for t in reversed(range(n))`. Carry one tensor (B, d) with you: what "
        "the later steps send back to the state of this one; it starts as zeros.",
        "At step t: `delta = (grad_h[:, t] + from_later) * (1 - h[:, t] ** 2)` is the gradient at the sum inside tanh. "
        "All else comes from it: `delta @ w_x.T` for x_t, `delta @ w_h.T` for the state before.",
        "The weights' gradients add up over the steps: `x[:, t].T @ delta`, `before.T @ delta`, `delta.sum(dim=0)`, "
        "where `before` is `h[:, t - 1]`, and `h0` at t = 0. What is sent back at the end is the gradient of h0.",
    ),
)

# --- clip_gradients --------------------------------------------------------------------------


def draw_clip(seed: int) -> list[Case]:
    """Draw gradients: long, short, of several shapes, all zero."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        shapes: list[tuple[int, ...]],
        max_norm: float,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> Case:
        some = [torch.randn(shape, generator=g, dtype=dtype) * scale for shape in shapes]
        return Case(label, {"gradients": some, "max_norm": max_norm})

    strided = case("non-contiguous, float32", [(4, 3), (2, 5)], 0.5, 3.0, torch.float32)
    strided.inputs["gradients"] = [_in_another_layout(each) for each in strided.inputs["gradients"]]
    return [
        case("one long gradient", [(3,)], 1.0, 5.0),
        case("short gradients, nothing to clip", [(2, 2), (2,)], 50.0),
        case("several tensors, long together", [(3, 4), (4, 4), (4,)], 2.0, 2.0),
        case("each shorter than the bound, together longer", [(5,), (5,), (5,), (5,)], 3.0),
        case("one large, one small", [(6,), (2, 3)], 1.5, 30.0),
        case("a tensor without axes", [(), (3, 1)], 0.25, 4.0),
        case("all zero", [(2, 3), (3,)], 1.0, 0.0),
        strided,
    ]


def oracle_clip(gradients: list[Tensor], max_norm: float) -> dict[str, Any]:
    """Ask PyTorch's clip_grad_norm_, in float64."""
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros_like(gradient, dtype=torch.float64))
        parameter.grad = gradient.detach().double().clone()
        parameters.append(parameter)
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    dtype = gradients[0].dtype
    clipped = [each.grad.to(dtype) for each in parameters if each.grad is not None]
    return {"clipped gradients": clipped, "norm": norm.detach().to(dtype)}


Clipped = tuple[list[Tensor], Tensor]


def _norm(gradients: list[Tensor]) -> Tensor:
    return torch.stack([each.square().sum() for each in gradients]).sum().sqrt()


def each_alone(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Clip each tensor by its own norm."""
    return [finished.clip_gradients([each], max_norm)[0][0] for each in gradients], _norm(gradients)


def each_number(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Clamp the numbers."""
    return [each.clamp(-max_norm, max_norm) for each in gradients], _norm(gradients)


def always_scaled(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Make short gradients longer."""
    norm = _norm(gradients)
    return [each * (max_norm / (norm + 1e-6)) for each in gradients], norm


def squared_norm(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Forget the root."""
    norm = _norm(gradients).square()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)
    return [each * factor for each in gradients], norm


def sum_of_norms(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Add up the tensors' norms."""
    norm = torch.stack([each.norm() for each in gradients]).sum()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)
    return [each * factor for each in gradients], norm


def largest_number(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Use the largest absolute value."""
    norm = torch.stack([each.abs().max() for each in gradients]).max()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)
    return [each * factor for each in gradients], norm


def norm_afterwards(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Return the norm of the clipped gradients."""
    clipped, _ = finished.clip_gradients(gradients, max_norm)
    return clipped, _norm(clipped)


def only_unit_length(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Clip to length 1, whatever the bound."""
    norm = _norm(gradients)
    factor = torch.where(norm > max_norm, 1 / (norm + 1e-6), torch.ones_like(norm))
    return [each * factor for each in gradients], norm


def no_epsilon(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Leave out the 1e-6."""
    norm = _norm(gradients)
    return [each * (max_norm / norm).clamp(max=1) for each in gradients], norm


def set_to_zero(gradients: list[Tensor], max_norm: float) -> Clipped:
    """Throw long gradients away."""
    norm = _norm(gradients)
    return [each * (norm <= max_norm) for each in gradients], norm


CLIP_GRADIENTS = Exercise(
    name="clip_gradients",
    lesson=5,
    points=3,
    probe=probes.clip_gradients,
    draw=draw_clip,
    oracle=oracle_clip,
    finished=(finished.clip_gradients,),
    forbidden=("torch.nn.utils", FINISHED),
    minutes=10,
    difficulty=2,
    mistakes=(
        Mistake(
            "each tensor alone",
            "You clipped each tensor by its own norm, which changes the direction: there is one norm, of all of them "
            "together, and one factor.",
            (each_alone,),
        ),
        Mistake(
            "each number alone",
            "You clamped the numbers one by one, which changes the direction: multiply all of them by one factor.",
            (each_number,),
        ),
        Mistake(
            "short ones made longer",
            "Gradients shorter than the bound became longer: the factor must not exceed 1.",
            (always_scaled,),
        ),
        Mistake(
            "no root",
            "Your norm is a sum of squares: take its root.",
            (squared_norm,),
        ),
        Mistake(
            "sum of norms",
            "You added up the tensors' norms: add up the squares of all numbers, and take one root at the end.",
            (sum_of_norms,),
        ),
        Mistake(
            "largest number",
            "You measured the largest number: the norm is the root of the sum of all squares.",
            (largest_number,),
        ),
        Mistake(
            "norm after clipping",
            "You returned the norm after clipping: the caller wants to know how long the gradient *was*.",
            (norm_afterwards,),
        ),
        Mistake(
            "clipped to length 1",
            "You clipped to length 1: the length allowed is `max_norm`.",
            (only_unit_length,),
        ),
        Mistake(
            "no 1e-6",
            "You divide by the norm alone: PyTorch adds 1e-6 to it, which also spares gradients that are all zero.",
            (no_epsilon,),
        ),
        Mistake(
            "set to zero",
            "You threw long gradients away: shorten them, their direction is good.",
            (set_to_zero,),
        ),
    ),
    hints=(
        "Imagine all numbers of all tensors in one long vector. Its norm is the root of the sum of all squares; "
        "`each.square().sum()` gives one tensor's part.",
        "One factor for all: max_norm / (norm + 1e-6), but never more than 1: `.clamp(max=1)`.",
        "`norm = torch.stack([each.square().sum() for each in gradients]).sum().sqrt()`, then multiply each tensor by "
        "the factor in a list comprehension; return the list and the norm.",
    ),
)

# --- lstm_step -------------------------------------------------------------------------------


def draw_lstm_step(seed: int) -> list[Case]:
    """Draw inputs, outputs, memories and weights of many shapes."""
    g = torch.Generator().manual_seed(seed)

    def case(
        label: str,
        batch: int,
        d_in: int,
        d: int,
        dtype: torch.dtype = torch.float64,
        scale: float = 1.0,
    ) -> Case:
        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, dtype=dtype)

        inputs: dict[str, Any] = {"x": normal(batch, d_in), "h": normal(batch, d).tanh()}
        inputs |= {"c": normal(batch, d) * scale, "w_x": normal(d_in, 4 * d)}
        inputs |= {"w_h": normal(d, 4 * d) / d**0.5, "b": normal(4 * d)}
        return Case(label, inputs | {"cotangents": (normal(batch, d), normal(batch, d))})

    smallest = case("one sequence, widths of one", 1, 1, 1)
    strided = case("non-contiguous tensors", 3, 5, 2)
    for name in ("x", "h", "c", "w_x", "w_h"):
        strided.inputs[name] = _in_another_layout(strided.inputs[name])
    return [
        smallest,
        case("a batch of one, odd widths", 1, 3, 5),
        case("a batch, float32", 3, 4, 2, torch.float32),
        case("input as wide as the output", 4, 6, 6),
        case("a memory far from zero", 2, 3, 4, scale=4.0),
        strided,
    ]


def oracle_lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_x: Tensor,
    w_h: Tensor,
    b: Tensor,
    cotangents: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Ask PyTorch's LSTM cell, in float64."""
    wrt = {"x": x, "h": h, "c": c, "w_x": w_x, "w_h": w_h, "b": b}
    wrt = {name: each.detach().double().requires_grad_() for name, each in wrt.items()}
    given, before, memory, from_x, from_h, bias = wrt.values()
    output, cells = torch.lstm_cell(
        given, [before, memory], from_x.T, from_h.T, bias, torch.zeros_like(bias)
    )
    total = output * cotangents[0].double() + cells * cotangents[1].double()
    found = {"output h": output, "memory c": cells}
    found |= gradients(total, torch.ones_like(total), wrt)
    return {name: each.detach().to(x.dtype) for name, each in found.items()}


Two = tuple[Tensor, Tensor]


def _gates(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Return input gate, forget gate, candidate and output gate."""
    i, f, g, o = (x @ w_x + h @ w_h + b).chunk(4, dim=-1)
    return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()


def order_ifog(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Take the candidate for the output gate."""
    i, f, o, g = (x @ w_x + h @ w_h + b).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def order_figo(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Take the forget gate for the input gate."""
    f, i, g, o = _gates(x, h, w_x, w_h, b)
    c = f * c + i * g
    return o * c.tanh(), c


def candidate_sigmoid(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Squash the candidate with the sigmoid."""
    i, f, g, o = (x @ w_x + h @ w_h + b).sigmoid().chunk(4, dim=-1)
    c = f * c + i * g
    return o * c.tanh(), c


def output_without_tanh(
    x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor
) -> Two:
    """Give out the memory itself."""
    i, f, g, o = _gates(x, h, w_x, w_h, b)
    c = f * c + i * g
    return o * c, c


def no_forget_gate(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Keep everything, as in 1997."""
    i, _, g, o = _gates(x, h, w_x, w_h, b)
    c = c + i * g
    return o * c.tanh(), c


def memory_lost(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Forget the memory."""
    i, _, g, o = _gates(x, h, w_x, w_h, b)
    c = i * g
    return o * c.tanh(), c


def no_bias(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Forget the biases."""
    return finished.lstm_step(x, h, c, w_x, w_h, torch.zeros_like(b))


def forget_turned(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Forget what the gate says is kept."""
    i, f, g, o = _gates(x, h, w_x, w_h, b)
    c = (1 - f) * c + i * g
    return o * c.tanh(), c


def new_forgotten_too(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Let the forget gate act on what is written as well."""
    i, f, g, o = _gates(x, h, w_x, w_h, b)
    c = f * (c + i * g)
    return o * c.tanh(), c


def interleaved(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Take each fourth column for a gate."""
    order = torch.arange(4 * h.shape[1], device=h.device).view(-1, 4).T.flatten()
    return finished.lstm_step(x, h, c, w_x[:, order], w_h[:, order], b[order])


def output_for_memory(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Keep the old output in place of the old memory."""
    return finished.lstm_step(x, h, h, w_x, w_h, b)


def coupled(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Write what is forgotten: the input gate is 1 − f."""
    _, f, g, o = _gates(x, h, w_x, w_h, b)
    c = f * c + (1 - f) * g
    return o * c.tanh(), c


def old_memory_out(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Give out the memory from before."""
    i, f, g, o = _gates(x, h, w_x, w_h, b)
    return o * c.tanh(), f * c + i * g


def memory_first(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Return the memory first."""
    output, memory = finished.lstm_step(x, h, c, w_x, w_h, b)
    return memory, output


def memory_squashed(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Two:
    """Keep the tanh of the memory."""
    output, memory = finished.lstm_step(x, h, c, w_x, w_h, b)
    return output, memory.tanh()


LSTM_STEP = Exercise(
    name="lstm_step",
    lesson=5,
    points=4,
    probe=probes.lstm_step,
    draw=draw_lstm_step,
    oracle=oracle_lstm_step,
    finished=(finished.lstm_step,),
    forbidden=LIBRARY,
    minutes=15,
    difficulty=3,
    mistakes=(
        Mistake(
            "order i, f, o, g",
            "You took the third block for the output gate: the order is input, forget, candidate, output.",
            (order_ifog,),
        ),
        Mistake(
            "order f, i, g, o",
            "You took the first block for the forget gate: the order is input, forget, candidate, output.",
            (order_figo,),
        ),
        Mistake(
            "sigmoid for the candidate",
            "Your candidate goes through the sigmoid: it is content, not a gate, and goes through tanh.",
            (candidate_sigmoid,),
        ),
        Mistake(
            "no tanh at the output",
            "You give out o ⊙ c: the memory goes through tanh first, h = o ⊙ tanh(c).",
            (output_without_tanh,),
        ),
        Mistake(
            "no forget gate",
            "You never forget: the old memory is multiplied by the forget gate.",
            (no_forget_gate,),
        ),
        Mistake(
            "memory lost",
            "You do not use the old memory `c`: the new one is f ⊙ c + i ⊙ g.",
            (memory_lost,),
        ),
        Mistake("bias left out", "You left out the bias `b`.", (no_bias,)),
        Mistake(
            "forget gate turned round",
            "You multiply the old memory by 1 − f: despite its name, f says how much is *kept*.",
            (forget_turned,),
        ),
        Mistake(
            "forget gate on the sum",
            "Your forget gate multiplies what is written too: it acts on the old memory alone, f ⊙ c + i ⊙ g.",
            (new_forgotten_too,),
        ),
        Mistake(
            "columns interleaved",
            "You took each fourth column for a gate: each gate's d columns stand side by side, as `chunk` cuts them.",
            (interleaved,),
        ),
        Mistake(
            "old output for old memory",
            "You forget parts of `h`, the old output: the forget gate acts on `c`, the old memory.",
            (output_for_memory,),
        ),
        Mistake(
            "coupled gates",
            "You used 1 − f for the input gate, as a GRU does: an LSTM's input gate i is one of its own.",
            (coupled,),
        ),
        Mistake(
            "old memory given out",
            "Your output comes from the memory before this step: update c first, then compute h from it.",
            (old_memory_out,),
        ),
        Mistake(
            "memory first",
            "You returned (c, h): the output comes first, (h, c).",
            (memory_first,),
        ),
        Mistake(
            "tanh of the memory kept",
            "You return tanh(c) as the memory: tanh is for the output alone, the memory itself stays unsquashed.",
            (memory_squashed,),
        ),
    ),
    hints=(
        "`x @ w_x + h @ w_h + b` has shape (B, 4d): the arguments of the three gates and the candidate side by side. "
        "`.chunk(4, dim=-1)` cuts it into four of (B, d), in the order i, f, g, o.",
        "i, f and o go through the sigmoid, g through tanh. The new memory: what is kept of the old plus what is "
        "written, f ⊙ c + i ⊙ g, where ⊙ is `*`.",
        "The output is `o.sigmoid() * torch.tanh(c)` with the *new* c. Return `h, c` in this order.",
    ),
)

EXERCISES = (RNN_STEP, BPTT_GRAD, CLIP_GRADIENTS, LSTM_STEP)
