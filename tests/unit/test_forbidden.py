"""Names that an exercise does not allow are found however they are reached, and nothing else is."""

import pytest

from course_lib.exercises.forbidden import Use, find_forbidden

SDPA = "torch.nn.functional.scaled_dot_product_attention"
MODULE = "course_lib.models.attention"
METHOD = "torch.Tensor.softmax"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("F.scaled_dot_product_attention(q, k, v)", SDPA),
        ("torch.nn.functional.scaled_dot_product_attention(q, k, v)", SDPA),
        ("nn.functional.scaled_dot_product_attention(q, k, v)", SDPA),
        ("import torch.nn.functional as G\nG.scaled_dot_product_attention(q, k, v)", SDPA),
        ("import torch as t\nt.nn.functional.scaled_dot_product_attention(q)", SDPA),
        ("from torch.nn import functional\nfunctional.scaled_dot_product_attention(q)", SDPA),
        ("from torch.nn.functional import scaled_dot_product_attention as s\ns(q)", SDPA),
        ("from torch.nn.functional import scaled_dot_product_attention", SDPA),
        ("from torch.nn.functional import *\nscaled_dot_product_attention(q)", SDPA),
        ("from torch.nn import *\nfunctional.scaled_dot_product_attention(q)", SDPA),
        ("sdpa = F.scaled_dot_product_attention\nsdpa(q)", SDPA),
        ("G = F\nG.scaled_dot_product_attention(q)", SDPA),
        ("getattr(F, 'scaled_dot_product_attention')(q)", SDPA),
        ("getattr(getattr(torch.nn, 'functional'), 'scaled_dot_product_attention')(q)", SDPA),
        ("functools.partial(F.scaled_dot_product_attention, q)", SDPA),
        (
            "class A:\n    def forward(self, q):\n        return F.scaled_dot_product_attention(q)",
            SDPA,
        ),
        ("class A:\n    attend = staticmethod(F.scaled_dot_product_attention)", SDPA),
        ("def f(q, attend=F.scaled_dot_product_attention):\n    return attend(q)", SDPA),
        ("f = lambda q: [F.scaled_dot_product_attention(each) for each in q]", SDPA),
        (
            "@torch.no_grad()\ndef f(q):\n    def g():\n        return F.scaled_dot_product_attention(q)",
            SDPA,
        ),
        ("async def f(q):\n    return F.scaled_dot_product_attention(q)", SDPA),
        ("import course_lib.models.attention", MODULE),
        ("import course_lib.models.attention as mine\nmine.attention(q)", MODULE),
        ("from course_lib.models import attention", MODULE),
        ("from course_lib.models.attention import attention", MODULE),
        ("from course_lib.models.attention import *", MODULE),
        ("import course_lib\ncourse_lib.models.attention.attention(q)", MODULE),
        ("from course_lib import models\nmodels.attention.attention(q)", MODULE),
        ("scores.softmax(-1)", METHOD),
        ("(q @ k).softmax(-1)", METHOD),
        ("torch.randn(3).softmax(-1)", METHOD),
        ("torch.Tensor.softmax(q, -1)", METHOD),
        ("torch_scores.softmax(-1)", METHOD),
        ("mathematics.scores.softmax(-1)", METHOD),
        ("f = q.softmax\nf(-1)", METHOD),
        ("getattr(q @ k, 'softmax')(-1)", METHOD),
        ("total = sum(x)", "sum"),
        ("apply(sum, x)", "sum"),
    ],
)
def test_a_use_is_found(source: str, name: str) -> None:
    uses = find_forbidden(source, (SDPA, MODULE, METHOD, "sum"))
    assert name in {use.name for use in uses}


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# F.scaled_dot_product_attention(q, k, v)",
        "text = 'F.scaled_dot_product_attention'",
        'def f():\n    """Like F.scaled_dot_product_attention."""',
        "def scaled_dot_product_attention(q):\n    return q",
        "F.softmax(q, dim=-1)",
        "torch.softmax(q, dim=-1)",
        "torch.nn.functional.log_softmax(q, -1)",
        "attention = 3\nsoftmax = attention",
        "import course_lib.models.attention_views",
        "from course_lib.models.basics import attention",
        "x.sum()",
        "torch.sum(x)",
        "def f(:\n",
        "\x00",
        "(" * 5000,
    ],
)
def test_what_is_allowed_is_not_found(source: str) -> None:
    assert find_forbidden(source, (SDPA, MODULE, METHOD, "sum")) == []


def test_every_line_is_told_in_order() -> None:
    source = (
        "import torch.nn.functional as G\n"
        "def f(q):\n"
        "    a = G.softmax(q)\n"
        "    return G.scaled_dot_product_attention(a) + q.softmax(-1)\n"
        "b = G.scaled_dot_product_attention\n"
    )
    assert find_forbidden(source, [SDPA, METHOD, "torch.nn.functional.softmax"]) == [
        Use("torch.nn.functional.softmax", 3),
        Use(METHOD, 4),
        Use(SDPA, 4),
        Use(SDPA, 5),
    ]


def test_nothing_is_forbidden_where_nothing_is_named() -> None:
    assert find_forbidden("F.scaled_dot_product_attention(q)", ()) == []
