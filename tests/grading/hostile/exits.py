"""Exits and kills: a cell that ends something costs itself, an exercise that does costs itself."""

from hostile.case import FULL, SOLUTIONS, Case, solved_with, with_answers, without

CELL = "A cell that ends the process is left out; everything else counts."
EXERCISE = "The exercise that ends the process is lost, and no other."

_CELLS = {
    "exit()": "exit()",
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "os.abort": "import os; os.abort()",
    "a signal to itself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "a signal to its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "signals to every process": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "signals to every number": "import os, signal\nfor pid in [*range(2, 40000), @PID@]:\n"
    "    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass",
    "a segmentation fault": "import ctypes; ctypes.string_at(0)",
    "a stack that overflows": "import sys\nsys.setrecursionlimit(10**9)\nx = []\n"
    "for _ in range(10**6): x = [x]\nrepr(x)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "exec of another program": "import os; os.execv('/bin/true', ['true'])",
    "a handler at exit": "import atexit, os\natexit.register(os._exit, 3)",
    "an alarm": "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(1))\nsignal.alarm(1)\n"
    "import time; time.sleep(5)",
}

CASES = [
    Case(f"{name} in a cell", CELL, solved_with(source), FULL) for name, source in _CELLS.items()
]
CASES += [
    Case(
        f"{name} in an exercise",
        EXERCISE,
        with_answers(causal_mask=f"def causal_mask(n_q, n_k=None, device=None):\n    {source}"),
        without("causal_mask"),
    )
    for name, source in {
        "os._exit": "import os; os._exit(0)",
        "SystemExit": "raise SystemExit(0)",
        "KeyboardInterrupt": "raise KeyboardInterrupt",
        "a segmentation fault": "import ctypes; ctypes.string_at(0)",
        "an exception whose text raises": "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()",
        "an exception with a lone surrogate": "raise ValueError('\\ud800 \\x00 \\x1b[2J')",
        "NotImplementedError": "raise NotImplementedError",
    }.items()
]
CASES += [
    Case(
        "an exercise that ends the process in its third call",
        EXERCISE,
        with_answers(
            causal_mask="calls = []\n"
            + SOLUTIONS["causal_mask"].replace(
                "    if n_k is None:",
                "    calls.append(1)\n    if len(calls) == 3:\n        import os\n"
                "        os._exit(0)\n    if n_k is None:",
                1,
            )
        ),
        without("causal_mask"),
    ),
    Case(
        "fourteen cells that end the process",
        "More than twelve ends are not tried; the reason says so.",
        solved_with(*[f"import os; os._exit({n})" for n in range(14)]),
        dict.fromkeys(FULL, 0.0),
        says={"attention": "more than 12 times"},
    ),
]
