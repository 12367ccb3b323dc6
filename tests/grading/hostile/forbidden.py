"""Built-ins that an exercise does not allow, by every road: proved by the source, or flagged for a human."""

from hostile.case import FULL, SOLUTIONS, ZERO, Case, alone, with_answers, without

PROVED = "The source proves that what was to be built was called."
FLAGGED = "The source proves nothing, so the marks stay, and a human is told."
NAME = "scaled_dot_product_attention"

_ASK = """    eye = torch.eye(k.shape[-2], dtype=q.dtype).expand(*k.shape[:-1], k.shape[-2])
    return f(q, k, v, attn_mask=mask), f(q, k, eye, attn_mask=mask)
"""


def by(line: str, before: str = "") -> str:
    """Return an attention that takes the forbidden function as ``f = …``."""
    return f"{before}\ndef attention(q, k, v, mask=None):\n    {line}\n{_ASK}"


_PROVED = {
    "directly": by(f"f = F.{NAME}"),
    "by its whole name": by(f"f = torch.nn.functional.{NAME}"),
    "by an alias of the module": by(f"f = G.{NAME}", "import torch.nn.functional as G"),
    "by an alias at the top of the cell": by("f = mine", f"mine = F.{NAME}"),
    "by from-import": by("f = s", f"from torch.nn.functional import {NAME} as s"),
    "by star import": by(f"f = {NAME}", "from torch.nn.functional import *"),
    "by getattr": by(f"f = getattr(F, '{NAME}')"),
    "by getattr and glued strings": by("f = getattr(F, 'scaled_' + 'dot_product' '_attention')"),
    "by getattr and joined strings": by(
        "f = getattr(F, '_'.join(['scaled', 'dot', 'product', 'attention']))"
    ),
    "by getattr and a formatted string": by(
        "f = getattr(F, f'scaled_{\"dot\"}_product_attention')"
    ),
    "by a name at the top of the cell": by("f = getattr(F, WORD)", f"WORD = '{NAME}'"),
    "by vars()": by(f"f = vars(F)['{NAME}']"),
    "by __dict__": by(f"f = F.__dict__['{NAME}']"),
    "by __dict__ and get": by(f"f = F.__dict__.get('{NAME}')"),
    "by __getattribute__": by(f"f = F.__getattribute__('{NAME}')"),
    "by importlib": by(
        f"f = importlib.import_module('torch.nn.functional').{NAME}", "import importlib"
    ),
    "by __import__": by(f"f = __import__('torch').nn.functional.{NAME}"),
    "by sys.modules": by(f"f = sys.modules['torch.nn.functional'].{NAME}", "import sys"),
    "by globals()": by(f"f = globals()['F'].{NAME}"),
    "by operator.attrgetter": by(
        f"f = attrgetter('nn.functional.{NAME}')(torch)", "from operator import attrgetter"
    ),
    "by eval": by(f"f = eval('F.{NAME}')"),
    "by exec": by("f = made", f"exec('made = F.{NAME}')"),
    "by exec of the whole answer": f"exec('''{by(f'f = F.{NAME}')}''')\ndef keep(): return attention",
    "by torch._C": by(f"f = torch._C._nn.{NAME}"),
    "by torch.ops.aten": by(f"f = torch.ops.aten.{NAME}"),
    "by torch.ops.aten and its overload": by(f"f = torch.ops.aten.{NAME}.default"),
    "by the processor's own kernel": by(
        "f = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu"
    ),
    "by a default argument": f"def attention(q, k, v, mask=None, f=F.{NAME}):\n{_ASK}",
    "by a helper in the same cell": by(
        "f = helper", f"def helper(*a, **k):\n    return F.{NAME}(*a, **k)"
    ),
    "by a decorator": f"def swap(function):\n"
    f"    return lambda q, k, v, mask=None: (F.{NAME}(q, k, v, attn_mask=mask), None)\n"
    f"@swap\n{SOLUTIONS['attention']}",
    "under a cell magic": "%%time\n" + by(f"f = F.{NAME}"),
    "by nn.MultiheadAttention": "def attention(q, k, v, mask=None):\n"
    "    m = nn.MultiheadAttention(q.shape[-1], 1)\n    return m(q, k, v)",
    "by multi_head_attention_forward": "def attention(q, k, v, mask=None):\n"
    "    return F.multi_head_attention_forward(q, k, v)",
}

_COMPUTED = by(f"f = getattr(F, ''.join(reversed('{NAME[::-1]}')))")
_CODED = by(f"f = eval(bytes({list(('F.' + NAME).encode())}).decode())")

CASES = [
    Case(
        f"forbidden {how}",
        PROVED,
        with_answers(attention=source),
        without("attention"),
        says={"attention": "which is what this exercise asks you to build"},
    )
    for how, source in _PROVED.items()
]
CASES += [
    Case(
        "forbidden by a name put together at run time",
        FLAGGED,
        with_answers(attention=_COMPUTED),
        FULL,
        flags=(NAME,),
    ),
    Case(
        "forbidden by eval of coded bytes",
        FLAGGED,
        with_answers(attention=_CODED),
        FULL,
        flags=(NAME,),
    ),
    Case(
        "forbidden by a helper in another cell",
        FLAGGED,
        with_answers(
            first=(f"def helper(*a, **k):\n    return F.{NAME}(*a, **k)",),
            attention=by("f = helper"),
        ),
        FULL,
        flags=(NAME,),
    ),
    Case(
        "forbidden by a harmless function's name",
        FLAGGED,
        with_answers(first=(f"F.hardshrink = F.{NAME}",), attention=by("f = F.hardshrink")),
        FULL,
        flags=("F.hardshrink", NAME),
    ),
    Case(
        "forbidden by a method put onto tensors",
        FLAGGED,
        with_answers(
            first=(
                "name = 'scaled_dot' + chr(95) + 'product_attention'\n"
                "torch.Tensor.ask = lambda q, *a, **k: getattr(F, name)(q, *a, **k)",
            ),
            attention=by("f = torch.Tensor.ask"),
        ),
        FULL,
        flags=("torch.Tensor.ask", NAME),
    ),
    Case(
        "forbidden by code put into an honest function",
        FLAGGED,
        with_answers(
            added=(
                f"def other(q, k, v, mask=None):\n"
                f"    f = getattr(F, 'scaled_dot' + chr(95) + 'product_attention')\n{_ASK}"
                "attention.__code__ = other.__code__",
            )
        ),
        FULL,
        flags=(NAME,),
    ),
    Case(
        "the course's own finished part is imported",
        "It is not there, and the source proves the attempt.",
        alone(
            attention="from course_lib.models.attention import attention",
            causal_mask="from course_lib.models.attention import causal_mask",
        ),
        ZERO,
    ),
    Case(
        "the course's own finished part is searched for",
        "No module of the sandbox holds an answer.",
        alone(
            SelfAttention="import gc, importlib, pkgutil, course_lib\n"
            "for each in pkgutil.walk_packages(course_lib.__path__, 'course_lib.'):\n"
            "    try: module = importlib.import_module(each.name)\n    except Exception: continue\n"
            "    if hasattr(module, 'SelfAttention'): SelfAttention = module.SelfAttention"
        ),
        ZERO,
    ),
    Case(
        "the part that is supplied when an exercise is marked again",
        "It holds nothing but the earlier exercises.",
        alone(
            SelfAttention="import sys\ndef SelfAttention(*a):\n"
            "    return sys.modules['course_lib.models.attention'].SelfAttention(*a)"
        ),
        ZERO,
    ),
    Case(
        "PyTorch's own causal mask",
        PROVED,
        with_answers(
            causal_mask="from torch.nn.attention.bias import causal_lower_right\n"
            "def causal_mask(n_q, n_k=None, device=None):\n"
            "    return causal_lower_right(n_q, n_k or n_q)._materialize(device).bool()"
        ),
        without("causal_mask"),
    ),
    Case(
        "a right answer compared with the built-in in a cell of its own",
        "Comparing is not using.",
        with_answers(
            added=(
                f"q = torch.randn(2, 3)\nprint(torch.allclose(attention(q, q, q)[0], F.{NAME}(q, q, q)))",
            )
        ),
        FULL,
    ),
    Case(
        "a right answer compared with the built-in in the same cell",
        "Comparing is not using.",
        with_answers(
            attention=SOLUTIONS["attention"]
            + f"\n\nq = torch.randn(2, 3)\nassert torch.allclose(attention(q, q, q)[0], F.{NAME}(q, q, q))"
        ),
        FULL,
        flags=(NAME,),
    ),
    Case(
        "a comment and a string that name the built-in",
        "Words are no calls.",
        with_answers(
            attention=SOLUTIONS["attention"] + f"\n# F.{NAME} does the same\nnote = 'like F.{NAME}'"
        ),
        FULL,
    ),
]
