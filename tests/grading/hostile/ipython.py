"""IPython's hooks and transformers: what a cell does to the cells after it."""

from hostile.case import FULL, SOLUTIONS, ZERO, Case, alone, blank_with, solved_with, without

NOTHING = "The shell judges nothing."
OWN = "What the hook does to the student's own cells costs or gives the student alone."

SWAP = """
import ast
class Swap(ast.NodeTransformer):
    def visit_FunctionDef(self, node):
        if node.name == 'attention':
            node.body = ast.parse('''
f = getattr(F, 'scaled_dot' + '_product_attention')
eye = torch.eye(k.shape[-2], dtype=q.dtype).expand(*k.shape[:-1], k.shape[-2])
return f(q, k, v, attn_mask=mask), f(q, k, eye, attn_mask=mask)
'''.replace('return', 'result =')).body + [ast.Return(ast.Name('result', ast.Load()))]
            ast.fix_missing_locations(node)
        return node
get_ipython().ast_transformers.append(Swap())
"""

CASES = [
    Case(
        "a transformer that replaces every cell by pass",
        "The cells that the student's own transformer removed define nothing.",
        solved_with("get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])"),
        ZERO,
        flags=("input_transformers_post",),
    ),
    Case(
        "a transformer that writes other code into an honest cell",
        "The source proves nothing, so a human must look.",
        alone(
            first=(SWAP,), attention=SOLUTIONS["attention"].replace("/ math.sqrt", "* math.sqrt")
        ),
        {**ZERO, "attention": FULL["attention"]},
        flags=("ast_transformers", "scaled_dot_product_attention"),
    ),
    Case(
        "hooks before and after each cell that raise",
        "IPython reports what a hook raises and goes on.",
        solved_with(
            "def angry(*a, **k): raise ValueError\n"
            "for name in ('pre_run_cell', 'post_run_cell', 'pre_execute', 'post_execute'):\n"
            "    get_ipython().events.register(name, angry)"
        ),
        FULL,
    ),
    Case(
        "an exception handler that ends the process",
        "Only cells with errors call it; they are left out.",
        solved_with(
            "import os\nget_ipython().set_custom_exc((BaseException,), lambda *a, **k: os._exit(0))",
            "1 / 0",
        ),
        FULL,
    ),
    Case(
        "a shell whose names are always there",
        NOTHING,
        blank_with(
            "class All(dict):\n    def __missing__(self, key): return lambda *a, **k: True\n"
            "    def get(self, key, default=None): return lambda *a, **k: True\n"
            "get_ipython().user_ns = All(get_ipython().user_ns)"
        ),
        ZERO,
    ),
    Case(
        "the shell itself is replaced",
        OWN,
        solved_with("get_ipython().run_cell = lambda *a, **k: None"),
        ZERO,
    ),
    Case(
        "the shell is reset at the end",
        "The student removed the answers.",
        solved_with(added=("%reset -f",)),
        ZERO,
    ),
    Case(
        "magics that are not there, and one that is redefined",
        "An unknown magic costs its own cell.",
        solved_with(
            "%no_such_magic",
            "%%cheat\nall points",
            "get_ipython().register_magic_function(lambda line: 1 / 0, magic_name='time')",
        ),
        FULL,
    ),
    Case(
        "shell escapes of every kind",
        "They run in the sandbox and do no harm.",
        solved_with(
            "!rm -rf /tmp/*",
            "!!kill -9 -1",
            "%%bash\nexit 3",
            "%system false",
            "files = !ls /",
        ),
        FULL,
    ),
    Case(
        "a display hook that raises",
        "What a last line shows is not asked for.",
        solved_with(
            "import sys\ndef hook(value): raise MemoryError\nsys.displayhook = hook\nsys.excepthook = hook",
            "1 + 1",
        ),
        FULL,
    ),
    Case(
        "a name of an exercise deleted at the end",
        "What is not there cannot be called.",
        solved_with(added=("del padding_mask",)),
        without("padding_mask"),
    ),
]
