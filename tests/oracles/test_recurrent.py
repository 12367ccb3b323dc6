"""Lesson 05's recurrent networks, backpropagation through time and clipping against PyTorch's own."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.models.recurrent import (
    GRU,
    LSTM,
    RNN,
    bptt_grad,
    clip_gradients,
    copy_from_torch,
    detach_state,
    gru_step,
    lstm_step,
    rnn_step,
)

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
PAIRS = {"RNN": (RNN, nn.RNN), "LSTM": (LSTM, nn.LSTM), "GRU": (GRU, nn.GRU)}
KINDS = pytest.mark.parametrize("kind", PAIRS)


def close(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == expected.dtype == dtype
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def parts(state: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


def together(state: list[Tensor]) -> Any:
    return tuple(state) if len(state) == 2 else state[0]


def made(kind: str, d_in: int, d: int, dtype: torch.dtype, seed: int) -> tuple[Any, Any]:
    """Return the course's module and PyTorch's, with equal weights of ordinary size."""
    torch.manual_seed(seed)
    ours, theirs = PAIRS[kind]
    module, reference = ours(d_in, d).to(dtype), theirs(d_in, d, batch_first=True).to(dtype)
    with torch.no_grad():
        for weight in reference.parameters():
            weight.normal_(std=d**-0.5)
    copy_from_torch(module, reference)
    return module, reference


def expected_gradients(kind: str, reference: nn.Module, found: list[Tensor]) -> list[Tensor]:
    """Return the gradients of PyTorch's weights as those of the course's."""
    w_x, w_h, b_x, b_h = found
    if kind == "GRU":
        return [w_x.T, w_h.T, b_x, b_h]
    torch.testing.assert_close(b_x, b_h)  # two biases that only occur as a sum
    return [w_x.T, w_h.T, b_x]


@DTYPES
@KINDS
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@given(
    batch=st.integers(1, 5),
    n=st.integers(1, 9),
    d_in=st.integers(1, 7),
    d=st.integers(1, 9),
    from_zero=st.booleans(),
    seed=st.integers(0, 2**31),
)
@example(batch=3, n=60, d_in=5, d=17, from_zero=False, seed=0)
def test_outputs_states_and_gradients_agree_with_torch(
    training: bool,
    kind: str,
    dtype: torch.dtype,
    batch: int,
    n: int,
    d_in: int,
    d: int,
    from_zero: bool,
    seed: int,
) -> None:
    module, reference = made(kind, d_in, d, dtype, seed)
    module.train(training)
    reference.train(training)
    x = torch.randn(batch, n, d_in, dtype=dtype, requires_grad=True)
    n_states = 2 if kind == "LSTM" else 1
    first = [torch.randn(batch, d, dtype=dtype, requires_grad=True) for _ in range(n_states)]
    if from_zero:
        outputs, last = module(x)
        expected, expected_last = reference(x)
        leaves = [x]
    else:
        outputs, last = module(x, together(first))
        expected, expected_last = reference(x, together([each[None] for each in first]))
        leaves = [x, *first]
    close(outputs, expected, dtype)
    for got, wanted in zip(parts(last), parts(expected_last), strict=True):
        close(got, wanted[0], dtype)
    cotangents = [torch.randn_like(each) for each in (outputs, *parts(last))]
    found = torch.autograd.grad(
        [outputs, *parts(last)], [*leaves, *module.parameters()], cotangents
    )
    wanted_all = torch.autograd.grad(
        [expected, *parts(expected_last)],
        [*leaves, *reference.parameters()],
        [cotangents[0], *(each[None] for each in cotangents[1:])],
    )
    of_weights = expected_gradients(kind, reference, list(wanted_all[len(leaves) :]))
    scale = 1 if dtype == torch.float64 else 10  # sums over batch and steps in float32
    for got, wanted in zip(found, [*wanted_all[: len(leaves)], *of_weights], strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(
            got, wanted, rtol=scale * TOLERANCE[dtype], atol=scale * TOLERANCE[dtype]
        )


@KINDS
def test_modules_agree_with_torch_on(device: str, kind: str) -> None:
    module, reference = made(kind, 5, 7, torch.float32, 0)
    module, reference = module.to(device), reference.to(device)
    x = torch.randn(3, 11, 5, device=device)
    outputs, last = module(x)
    expected, expected_last = reference(x)
    assert outputs.device.type == device
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    for got, wanted in zip(parts(last), parts(expected_last), strict=True):
        torch.testing.assert_close(got, wanted[0], rtol=1e-4, atol=1e-5)


@given(
    batch=st.integers(1, 4), d_in=st.integers(1, 6), d=st.integers(1, 6), seed=st.integers(0, 2**31)
)
def test_steps_agree_with_torchs_cells(batch: int, d_in: int, d: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x, h, c = normal(batch, d_in), normal(batch, d), normal(batch, d)
    for gates, name in ((1, "rnn"), (4, "lstm"), (3, "gru")):
        w_x, w_h, b_x, b_h = (
            normal(*shape)
            for shape in ((d_in, gates * d), (d, gates * d), (gates * d,), (gates * d,))
        )
        if name == "rnn":
            close(
                rnn_step(x, h, w_x, w_h, b_x + b_h),
                torch.rnn_tanh_cell(x, h, w_x.T, w_h.T, b_x, b_h),
                x.dtype,
            )
        elif name == "lstm":
            got = lstm_step(x, h, c, w_x, w_h, b_x + b_h)
            for one, other in zip(
                got, torch.lstm_cell(x, [h, c], w_x.T, w_h.T, b_x, b_h), strict=True
            ):
                close(one, other, x.dtype)
        else:
            close(
                gru_step(x, h, w_x, w_h, b_x, b_h),
                torch.gru_cell(x, h, w_x.T, w_h.T, b_x, b_h),
                x.dtype,
            )


@KINDS
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    module, _ = made(kind, 2, 3, torch.float64, 0)
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: module(given)[0], (x,))


# --- backpropagation through time -----------------------------------------------------------------


@DTYPES
@given(
    batch=st.integers(1, 5),
    n=st.integers(1, 12),
    d_in=st.integers(1, 6),
    d=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
@example(batch=4, n=50, d_in=3, d=17, seed=1)
def test_bptt_by_hand_agrees_with_autograd_of_nn_rnn(
    dtype: torch.dtype, batch: int, n: int, d_in: int, d: int, seed: int
) -> None:
    module, reference = made("RNN", d_in, d, dtype, seed)
    x = torch.randn(batch, n, d_in, dtype=dtype, requires_grad=True)
    h0 = torch.randn(batch, d, dtype=dtype).tanh().requires_grad_()
    direct = torch.randn(batch, n, d, dtype=dtype)
    expected, _ = reference(x, h0[None])
    given_x, given_h0, *weights = torch.autograd.grad(
        expected, [x, h0, *reference.parameters()], direct
    )
    w_x, w_h, b, _ = weights
    with torch.no_grad():
        h, _ = module(x, h0)
        found = bptt_grad(x, h0, h, direct, module.w_x, module.w_h)
    scale = 1 if dtype == torch.float64 else 10
    for got, wanted in zip(found, (given_x, given_h0, w_x.T, w_h.T, b), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(
            got, wanted, rtol=scale * TOLERANCE[dtype], atol=scale * TOLERANCE[dtype]
        )


def test_bptt_leaves_what_it_is_given_as_it_was() -> None:
    torch.manual_seed(0)
    given_all = [
        torch.randn(*shape) for shape in ((2, 4, 3), (2, 5), (2, 4, 5), (2, 4, 5), (3, 5), (5, 5))
    ]
    before = [each.clone() for each in given_all]
    bptt_grad(*given_all)
    assert all(torch.equal(one, other) for one, other in zip(given_all, before))


# --- clipping -------------------------------------------------------------------------------------


@DTYPES
@given(
    shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=5),
    max_norm=st.sampled_from([0.0, 1e-3, 0.5, 1.0, 7.0]),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_clipping_agrees_with_clip_grad_norm(
    dtype: torch.dtype, shapes: list[list[int]], max_norm: float, scale: float, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    gradients = [scale * torch.randn(shape, generator=g, dtype=dtype) for shape in shapes]
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient.clone()
    before = [each.clone() for each in gradients]
    expected = nn.utils.clip_grad_norm_(parameters, max_norm)
    clipped, norm = clip_gradients(gradients, max_norm)
    close(norm, expected, dtype)
    assert norm.shape == ()
    for got, parameter, gradient, old in zip(clipped, parameters, gradients, before, strict=True):
        assert parameter.grad is not None
        close(got, parameter.grad, dtype)
        assert torch.equal(gradient, old)
        assert got.data_ptr() != gradient.data_ptr()


# --- one set of weights for any length -----------------------------------------------------------


@KINDS
@given(cut=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_reading_in_pieces_is_reading_at_once(kind: str, cut: int, seed: int) -> None:
    module, _ = made(kind, 3, 4, torch.float64, seed)
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    outputs, last = module(x)
    state, pieces = None, []
    for piece in x.split(cut, dim=1):
        out, state = module(piece, state)
        assert all(each.requires_grad for each in parts(state))
        state = detach_state(state)
        assert not any(each.requires_grad for each in parts(state))
        pieces.append(out)
    close(torch.cat(pieces, dim=1), outputs, torch.float64)
    for got, wanted in zip(parts(state), parts(last), strict=True):
        close(got, wanted, torch.float64)


@KINDS
@given(position=st.integers(0, 6), seed=st.integers(0, 2**31))
def test_the_future_changes_nothing(kind: str, position: int, seed: int) -> None:
    module, _ = made(kind, 3, 4, torch.float64, seed)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    changed = x.clone()
    changed[:, position:] = torch.randn(2, 7 - position, 3, dtype=torch.float64)
    before, after = module(x)[0], module(changed)[0]
    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.allclose(before[:, position], after[:, position])


@KINDS
def test_sequences_of_a_batch_do_not_meet(kind: str) -> None:
    module, _ = made(kind, 3, 4, torch.float64, 0)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    outputs, _ = module(x)
    for row in range(5):
        close(module(x[row : row + 1])[0], outputs[row : row + 1], torch.float64)


# --- how they start ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_the_recurrent_matrix_starts_with_the_given_spectral_radius(scale: float) -> None:
    torch.manual_seed(0)
    eigenvalues = torch.linalg.eigvals(RNN(3, 12, recurrent_scale=scale).w_h.double())
    torch.testing.assert_close(
        eigenvalues.abs(), torch.full((12,), scale, dtype=torch.float64), rtol=1e-5, atol=1e-5
    )


def test_the_forget_gates_start_as_asked() -> None:
    module = LSTM(3, 4, forget_bias=2.5)
    assert module.b.tolist() == [0.0] * 4 + [2.5] * 4 + [0.0] * 8
    x, h, c = torch.zeros(1, 3), torch.zeros(1, 4), torch.ones(1, 4)
    _, kept = lstm_step(x, h, c, module.w_x, module.w_h, module.b)
    torch.testing.assert_close(kept, torch.full((1, 4), 2.5).sigmoid())


def test_the_update_gates_start_as_asked() -> None:
    module = GRU(3, 4, update_bias=2.5)
    assert (module.b_x + module.b_h).tolist() == [0.0] * 4 + [2.5] * 4 + [0.0] * 4
