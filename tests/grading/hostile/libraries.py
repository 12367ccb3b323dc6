"""Patched libraries: a blank notebook that bends what might judge it, and a solved one that harms itself."""

from hostile.case import FULL, ZERO, Case, blank_with, solved_with

WHY = "Nothing inside the sandbox judges, so bending it earns nothing."
FREE = "What was changed does not matter to the answers, which are right."

_BENT = {
    "torch says that all is equal": "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\n"
    "torch.testing.assert_close = lambda *a, **k: None",
    "tensors say that all is equal": "torch.Tensor.__eq__ = torch.Tensor.__ne__ = torch.Tensor.eq = lambda *a: True\n"
    "torch.Tensor.__hash__ = lambda self: 1",
    "numpy says that all is close": "import numpy as np\nnp.allclose = np.array_equal = lambda *a, **k: True\n"
    "np.testing.assert_allclose = lambda *a, **k: None",
    "builtins lie": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.all = lambda x: True\n"
    "builtins.any = lambda x: False",
    "the runner's own words are replaced": "import course_lib.exercises.probing as p\n"
    "import course_lib.exercises.values as v\n"
    "p.run_probe = lambda *a, **k: p.Outcome({}, {}, None, {})\nv.plain = lambda value: value\n"
    "v.pack = lambda value: b''",
    "outcomes say that they passed": "import course_lib.exercises.probing as p\n"
    "p.Outcome.to_value = lambda self: {'values': {}, 'devices': {}, 'error': None, 'inputs_after': {},"
    " 'status': 'passed', 'points': 100}",
    "a course_lib of one's own": "import sys, types\nfor m in ('judging', 'spec', 'lessons', 'lessons.lesson_07'):\n"
    "    sys.modules['course_lib.exercises.' + m] = types.ModuleType(m)\n"
    "sys.modules['course_lib.exercises'].check = lambda name: True",
    "the probe is replaced": "import course_lib.exercises.probes.lesson_07 as p\n"
    "p.attention = p.causal_mask = p.padding_mask = p.self_attention = lambda *a, **k: {'mask': True}",
    "sys.modules is emptied": "import sys\nfor name in list(sys.modules):\n    if name.startswith('course_lib'):\n"
    "        del sys.modules[name]",
    "json and struct are bent": "import json, struct\njson.dumps = lambda *a, **k: '{\"d\":{}}'\n"
    "struct.Struct.pack = None",
    "the saved result is taken for right": "import safetensors.torch as s\ns.save = lambda tensors: b''",
    "autograd gives zeros": "torch.autograd.grad = lambda o, i, **k: [torch.zeros_like(each) for each in i]",
}

CASES = [Case(name, WHY, blank_with(source), ZERO) for name, source in _BENT.items()]
CASES += [
    Case(
        "a right notebook that patches what it does not need",
        FREE,
        solved_with("import torch\ntorch.allclose = lambda *a, **k: True"),
        FULL,
        flags=("assigns to `torch.allclose`",),
    ),
    Case(
        "a right notebook that replaces print and open",
        FREE,
        solved_with("import builtins\nbuiltins.print = lambda *a, **k: None\nbuiltins.open = None"),
        FULL,
        flags=("assigns to `builtins.print`",),
    ),
    Case(
        "a module of the same name as one of the grader's",
        FREE,
        solved_with(
            "import sys, types\nsys.modules['runner'] = sys.modules['walls'] = types.ModuleType('mine')"
        ),
        FULL,
    ),
]
