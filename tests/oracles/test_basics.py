"""Lesson 00's finished parts agree with PyTorch's own, values and gradients, in float64 and float32."""

import pytest
import torch
import torch.nn.functional as F

from course_lib.exercises.judging import run_and_judge
from course_lib.exercises.spec import find
from course_lib.models import basics

TOLERANCE = {
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def draw(*shape, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True)


def assert_same(ours, theirs, inputs, dtype):
    """Equal outputs, and equal gradients of a random combination of them."""
    torch.testing.assert_close(ours, theirs, **TOLERANCE[dtype])
    weights = draw(*ours.shape, dtype=dtype, seed=99).detach()
    mine = torch.autograd.grad((ours * weights).sum(), inputs)
    reference = torch.autograd.grad((theirs * weights).sum(), inputs)
    torch.testing.assert_close(mine, reference, **TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("d", [1, 7, 64])
def test_dot_product_is_torch_dot(d, dtype):
    a, b = draw(d, dtype=dtype), draw(d, dtype=dtype, seed=1)
    assert_same(basics.dot_product(a, b), torch.dot(a, b), (a, b), dtype)


@DTYPES
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 7), (2, 1, 5)])
def test_norm_is_vector_norm(shape, dtype):
    a = draw(*shape, dtype=dtype)
    assert_same(basics.norm(a), torch.linalg.vector_norm(a, dim=-1), (a,), dtype)


@DTYPES
@pytest.mark.parametrize(
    ("left", "right"),
    [((1,), (1,)), ((5,), (5,)), ((4, 3), (4, 3)), ((5,), (6, 5)), ((3, 1, 7), (1, 4, 7))],
)
def test_cosine_similarity_is_torchs(left, right, dtype):
    a, b = draw(*left, dtype=dtype), draw(*right, dtype=dtype, seed=1)
    theirs = F.cosine_similarity(a, b, dim=-1)
    assert_same(basics.cosine_similarity(a, b), theirs, (a, b), dtype)


def test_cosine_similarity_of_zeros_is_zero_with_finite_gradients():
    a = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    b = draw(2, 4, dtype=torch.float64)
    cosine = basics.cosine_similarity(a, b)
    assert cosine.tolist() == [0.0, 0.0]
    assert all(each.isfinite().all() for each in torch.autograd.grad(cosine.sum(), (a, b)))


@DTYPES
def test_projection_is_the_least_squares_one(dtype):
    a, b = draw(6, 5, dtype=dtype), draw(6, 5, dtype=dtype, seed=1)
    along = torch.linalg.lstsq(b.detach()[..., None], a.detach()[..., None]).solution[..., 0]
    torch.testing.assert_close(basics.projection(a, b), along * b, **TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (2, 3, 4), (5, 1, 3), (3, 7, 2)])
def test_matrix_product_is_matmul(n, d, m, dtype):
    a, b = draw(n, d, dtype=dtype), draw(d, m, dtype=dtype, seed=1)
    assert_same(basics.matrix_product(a, b), a @ b, (a, b), dtype)


@DTYPES
@pytest.mark.parametrize(
    ("shape", "dim"), [((1,), -1), ((5,), 0), ((3, 4), -1), ((3, 4), 0), ((2, 5, 3), 1)]
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_softmax_is_torchs(shape, dim, scale, dtype):
    x = draw(*shape, dtype=dtype)
    ours, theirs = basics.softmax(scale * x, dim=dim), torch.softmax(scale * x, dim)
    assert_same(ours, theirs, (x,), dtype)


def test_softmax_of_an_excluded_score():
    x = torch.tensor([1.0, -torch.inf, 3.0])
    torch.testing.assert_close(basics.softmax(x), torch.softmax(x, -1))


@DTYPES
@pytest.mark.parametrize(("batch", "n_q", "n_k", "d"), [(1, 1, 1, 1), (2, 3, 5, 7), (3, 4, 4, 4)])
def test_batched_scores_is_bmm(batch, n_q, n_k, d, dtype):
    queries, keys = draw(batch, n_q, d, dtype=dtype), draw(batch, n_k, d, dtype=dtype, seed=1)
    theirs = torch.bmm(queries, keys.mT)
    assert_same(basics.batched_scores(queries, keys), theirs, (queries, keys), dtype)


OTHER_RIGHT_WAYS = {
    "dot_product": [
        lambda a, b: sum(x * y for x, y in zip(a, b)),
        lambda a, b: a @ b,
        lambda a, b: torch.einsum("d,d->", a, b),
    ],
    "cosine_similarity": [
        lambda a, b: (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1),
        lambda a, b: (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=1e-8),
        lambda a, b: ((a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))).nan_to_num(0.0),
    ],
    "softmax": [
        lambda x, dim=-1: (x - x.logsumexp(dim, keepdim=True)).exp(),
        lambda x, dim=-1: (
            (x - x.max(dim, keepdim=True).values).exp()
            / (x - x.max(dim, keepdim=True).values).exp().sum(dim, keepdim=True)
        ),
    ],
    "batched_scores": [
        lambda q, k: torch.einsum("bqd,bkd->bqk", q, k),
        lambda q, k: (q[:, :, None] * k[:, None]).sum(-1),
        lambda q, k: torch.stack([one @ other.T for one, other in zip(q, k)]),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer"), [(name, each) for name, ways in OTHER_RIGHT_WAYS.items() for each in ways]
)
def test_other_right_ways_pass(name, answer):
    verdict = run_and_judge(find(name, 0), (answer,), seeds=(0, 1, 2))
    assert verdict.status == "passed", verdict.message
