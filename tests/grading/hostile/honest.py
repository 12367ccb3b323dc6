"""Right answers by unusual ways: they get their full marks."""

from hostile.case import (
    FULL,
    SETUP,
    SOLUTIONS,
    Case,
    as_bytes,
    code,
    file_of,
    notebook,
    with_answers,
)

WHY = "It is right on every hidden case, whatever way it takes."

EINSUM = """
from einops import einsum, rearrange
def attention(q, k, v, mask=None):
    scores = einsum(q, k, "... i d, ... j d -> ... i j") * q.shape[-1] ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, torch.tensor(-1e30, dtype=scores.dtype))
    top = scores.amax(-1, keepdim=True)
    w = torch.exp(scores - top)
    if mask is not None:
        w = w * mask
    total = w.sum(-1, keepdim=True)
    w = w / torch.where(total == 0, torch.ones_like(total), total)
    return torch.einsum("...ij,...jd->...id", w, v), w
"""
LOOPS = """
def causal_mask(n_q, n_k=None, device=None):
    n_k = n_k if n_k is not None else n_q
    rows = []
    for i in range(n_q):
        row = []
        for j in range(n_k):
            row.append(j <= i + n_k - n_q)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.bool, device=device)

def padding_mask(lengths, n_k):
    import time
    time.sleep(0.02)
    rows = [[[position < int(n) for position in range(n_k)]] for n in lengths]
    return torch.tensor(rows)
"""
DOUBLE = """
def attention(q, k, v, mask=None):
    dtype = q.dtype
    q, k, v = (each.to(torch.float64) for each in (q, k, v))
    s = torch.matmul(q, torch.swapaxes(k, -1, -2)) / math.sqrt(q.size(-1))
    if mask is not None:
        s = s + torch.zeros_like(s).masked_fill(~mask, float("-inf"))
    w = torch.nan_to_num(torch.softmax(s, dim=-1)) if mask is not None else torch.softmax(s, -1)
    if mask is not None:
        empty = ~mask.any(-1, keepdim=True)
        w = torch.softmax(s.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
    return (w @ v).to(dtype), w.to(dtype)
"""
LAMBDA = """
causal_mask = lambda n_q, n_k=None, device=None: (
    torch.ones(n_q, n_k or n_q, dtype=torch.bool, device=device).tril((n_k or n_q) - n_q)
)
class _Padding:
    def __call__(self, lengths, n_k):
        return torch.lt(torch.arange(n_k).reshape(1, 1, -1), lengths.reshape(-1, 1, 1))
padding_mask = _Padding()
"""
NOISY = "import warnings, logging, sys\n" + SOLUTIONS["causal_mask"].replace(
    "    if n_k is None:",
    "    warnings.warn('careful'); logging.warning('x'); print('debug', n_q, file=sys.stderr)\n    if n_k is None:",
    1,
)
SLOW = SOLUTIONS["causal_mask"].replace(
    "    if n_k is None:", "    sum(i * i for i in range(200_000))\n    if n_k is None:", 1
)
PARTIAL = """
import functools
def _made(shift_of, n_q, n_k=None, device=None):
    n_k = n_q if n_k is None else n_k
    return torch.ones((n_q, n_k), device=device).tril(shift_of(n_q, n_k)).bool()
causal_mask = functools.partial(_made, lambda n_q, n_k: n_k - n_q)
"""
UNICODE = SOLUTIONS["padding_mask"].replace("position_k", "Position_κ")

CASES = [
    Case("einsum and a softmax by hand", WHY, with_answers(attention=EINSUM), FULL),
    Case(
        "loops in plain Python, and waiting",
        WHY,
        with_answers(causal_mask=LOOPS, padding_mask=""),
        FULL,
    ),
    Case("computed in double precision", WHY, with_answers(attention=DOUBLE), FULL),
    Case(
        "a lambda, and an object that can be called",
        WHY,
        with_answers(causal_mask=LAMBDA, padding_mask=""),
        FULL,
    ),
    Case(
        "under the cell magics %%time and %%capture",
        WHY,
        with_answers(
            attention="%%time\n" + SOLUTIONS["attention"],
            padding_mask="%%capture out\n" + SOLUTIONS["padding_mask"],
        ),
        FULL,
    ),
    Case("functools.partial", WHY, with_answers(causal_mask=PARTIAL), FULL),
    Case("warnings, logging and prints", WHY, with_answers(causal_mask=NOISY), FULL),
    Case("slow", WHY, with_answers(causal_mask=SLOW), FULL),
    Case("all in one cell", WHY, file_of("\n\n".join(SOLUTIONS.values())), FULL),
    Case(
        "setup and all in one cell",
        WHY,
        as_bytes([code(SETUP + "\n" + "\n\n".join(SOLUTIONS.values()))]),
        FULL,
    ),
    Case(
        "split in five: helpers in other cells",
        WHY,
        file_of(
            "def _scores(q, k):\n    return q @ k.mT / math.sqrt(q.shape[-1])",
            "def _hide(scores, mask):\n    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
            "_soft = torch.nn.Softmax(dim=-1)",
            "def attention(q, k, v, mask=None):\n    s = _scores(q, k)\n"
            "    w = _soft(s if mask is None else _hide(s, mask))\n"
            "    w = w if mask is None else w * mask\n    return w @ v, w",
            *[SOLUTIONS[name] for name in ("causal_mask", "padding_mask", "SelfAttention")],
        ),
        FULL,
    ),
    Case(
        "answers that were written twice, the second time right",
        WHY,
        with_answers(
            padding_mask="def padding_mask(lengths, n_k):\n    return None\n\n"
            + SOLUTIONS["padding_mask"]
        ),
        FULL,
    ),
    Case(
        "Greek names, type annotations, async and walrus about it",
        WHY,
        with_answers(
            padding_mask="from __future__ import annotations\nasync def unused(): await unused()\n(n := 3)\n"
            + UNICODE
        ),
        FULL,
    ),
    Case(
        "a magic, a shell line and a plot in the cell",
        WHY,
        with_answers(
            attention="%matplotlib inline\n!echo hello\nimport matplotlib.pyplot as plt\n"
            + SOLUTIONS["attention"]
            + "\n%timeit -n1 -r1 pass\nplt.plot([1]); plt.show()"
        ),
        FULL,
    ),
    Case(
        "cells with errors between the right ones",
        "An error costs only what depends on it.",
        as_bytes(
            notebook(
                SOLUTIONS,
                first=("1 / 0", "import no_such", "x = undefined", "def broken(:", "attention.x"),
                added=("raise ValueError",),
            )
        ),
        FULL,
    ),
    Case(
        "seeds, settings and threads changed",
        WHY,
        with_answers(
            first=(
                "torch.manual_seed(0); torch.set_printoptions(precision=2)\ntorch.set_num_threads(2)\n"
                "import random, numpy as np; random.seed(1); np.random.seed(1)\n"
                "torch.use_deterministic_algorithms(True)",
            )
        ),
        FULL,
    ),
    Case(
        "a module built from a subclass and a list of layers",
        WHY,
        with_answers(
            SelfAttention="class Base(nn.Module):\n    def __init__(self, d_model, d_k, d_v):\n"
            "        super().__init__()\n"
            "        for name, width in dict(to_q=d_k, to_k=d_k, to_v=d_v).items():\n"
            "            setattr(self, name, nn.Linear(d_model, width, bias=False))\n\n"
            "class SelfAttention(Base):\n    def forward(self, x, lengths=None, causal=False):\n        n = x.size(1)\n"
            "        keep = causal_mask(n, device=x.device)[None] if causal else "
            "torch.ones(1, n, n, dtype=torch.bool)\n"
            "        if lengths is not None:\n            keep = torch.logical_and(keep, padding_mask(lengths, n))\n"
            "        return attention(*(layer(x) for layer in (self.to_q, self.to_k, self.to_v)), mask=keep)"
        ),
        FULL,
    ),
    Case(
        "the future and the past of another dtype default",
        WHY,
        with_answers(first=("torch.set_default_dtype(torch.float64)",)),
        FULL,
    ),
]
