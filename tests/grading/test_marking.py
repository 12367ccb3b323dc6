"""Marks of whole notebooks of lesson 07, run in the real sandbox: fair to the honest, nothing for the rest."""

import pytest
from submissions import (
    EXERCISES,
    FULL,
    SOLUTIONS,
    STUBS,
    as_bytes,
    notebook,
    of,
    points,
    submission,
)

from course_lib.grading import cases, supply
from course_lib.grading.marking import Marker
from course_lib.grading.reduced import answer_modules, modules_of
from course_lib.grading.sandbox.protocol import Limits, Response, Stop

ZERO = dict.fromkeys(FULL, 0.0)


def test_solved_gets_full_marks(mark):
    marked = mark(notebook(SOLUTIONS))
    assert points(marked) == FULL
    assert marked.flags == ()


def test_blank_gets_nothing_and_says_not_attempted(mark):
    marked = mark(notebook())
    assert points(marked) == ZERO
    assert {each.status for each in marked.marks} == {"not-attempted"}


def test_half_solved_gets_half(mark):
    marked = mark(notebook({name: SOLUTIONS[name] for name in ("attention", "causal_mask")}))
    assert points(marked) == {**ZERO, "attention": 4.0, "causal_mask": 2.0}


def test_a_syntax_error_costs_only_its_exercise(mark):
    marked = mark(
        notebook({**SOLUTIONS, "padding_mask": "def padding_mask(lengths, n_k:\n    pass"})
    )
    assert points(marked) == {**FULL, "padding_mask": 0.0}
    assert "syntax error" in of(marked, "padding_mask").reason
    assert "course's version of `padding_mask`" in of(marked, "SelfAttention").reason


def test_every_earlier_failure_is_spared(mark):
    marked = mark(notebook({"SelfAttention": SOLUTIONS["SelfAttention"]}))
    assert points(marked) == {**ZERO, "SelfAttention": 4.0}


def test_a_wrong_dependent_is_not_saved_by_finished_parts(mark):
    wrong = SOLUTIONS["SelfAttention"].replace("if causal:", "if not causal:")
    marked = mark(notebook({"SelfAttention": wrong}))
    assert points(marked) == ZERO
    assert of(marked, "SelfAttention").status == "failed"


def test_supplied_parts_hold_no_other_answer():
    known, answers = modules_of(), answer_modules(EXERCISES)
    for exercise in EXERCISES:
        needed = [each for each in EXERCISES if each.name in exercise.needs]
        text = "".join(part.source for part in supply.finished_parts(needed, answers, known))
        others = {each.name for each in EXERCISES} - {each.name for each in needed}
        assert not [name for name in others if f"def {name}" in text or f"class {name}" in text]


def test_a_known_mistake_is_named_in_its_own_words(mark):
    wrong = SOLUTIONS["attention"].replace("/ math.sqrt(q.shape[-1])", "/ q.shape[-1]")
    found = of(mark(notebook({**SOLUTIONS, "attention": wrong})), "attention")
    assert found.points == 0
    assert "You scaled by d, not √d." in found.reason
    assert found.mistake == "scaled by d"
    assert found.label


def test_moved_duplicated_and_split_cells_count(mark):
    early = notebook(SOLUTIONS)
    setup = early.index(next(cell for cell in early if "start(" in cell["source"]))
    moved = [*early[: setup + 1], *reversed(early[setup + 1 :])]
    for cell in moved:
        cell["metadata"] = {"tags": ["check"], "nbgrader": {"points": 1000, "grade": True}}
    moved.insert(setup + 1, {**moved[-1], "source": "def attention(*a, **k):\n    return None"})
    moved.append({"cell_type": "code", "metadata": {}, "source": SOLUTIONS["attention"]})
    assert points(mark(moved)) == FULL


def test_the_last_definition_wins(mark):
    marked = mark(
        notebook(SOLUTIONS, added=("def causal_mask(n_q, n_k=None, device=None):\n    return 1",))
    )
    assert points(marked)["causal_mask"] == 0


@pytest.mark.parametrize(
    "added",
    [
        "exit()",
        "quit",
        "import sys; sys.exit(3)",
        "raise KeyboardInterrupt",
        "%no_such_magic",
        "!false",
        "%%no_such_cell_magic\nx = 1",
        "1 +",
        "input('name? ')",
        "import no_such_module",
        "import warnings, sys; warnings.warn('x'); print('noise', file=sys.stderr)",
        "%matplotlib inline",
    ],
)
def test_a_careless_cell_costs_nothing(mark, added):
    assert points(mark(notebook(SOLUTIONS, first=(added,)))) == FULL


def test_magics_in_the_cell_of_an_exercise_cost_nothing(mark):
    head = "%matplotlib inline\n%load_ext autoreload\n!echo hello\nimport matplotlib.pyplot as plt\nplt.plot([1])\n"
    answers = {
        **SOLUTIONS,
        "attention": head + SOLUTIONS["attention"] + "\n%timeit -n1 -r1 pass\nplt.show()",
    }
    assert points(mark(notebook(answers))) == FULL


def test_a_cell_that_ends_the_process_costs_only_itself(mark):
    marked = mark(notebook(SOLUTIONS, first=("import os; os._exit(0)",)))
    assert points(marked) == FULL
    assert any("ended the process" in flag for flag in marked.flags)


def test_a_crash_in_one_exercise_leaves_the_others(mark):
    crash = (
        "def causal_mask(n_q, n_k=None, device=None):\n    import os\n    os.kill(os.getpid(), 11)"
    )
    marked = mark(notebook({**SOLUTIONS, "causal_mask": crash}))
    assert points(marked) == {**FULL, "causal_mask": 0.0}
    assert "ended the process" in of(marked, "causal_mask").reason


def test_an_exception_that_is_no_exception_leaves_the_others(mark):
    leave = "def causal_mask(n_q, n_k=None, device=None):\n    raise SystemExit(0)"
    marked = mark(notebook({**SOLUTIONS, "causal_mask": leave}))
    assert points(marked) == {**FULL, "causal_mask": 0.0}


def test_an_endless_loop_in_an_exercise_leaves_the_others(mark):
    loop = "def causal_mask(n_q, n_k=None, device=None):\n    while True:\n        pass"
    marked = mark(notebook({**SOLUTIONS, "causal_mask": loop}), unit_cpu_seconds=4)
    assert points(marked) == {**FULL, "causal_mask": 0.0}
    assert "endless loop" in of(marked, "causal_mask").reason


def test_an_endless_loop_that_ignores_signals_in_a_cell_costs_only_the_cell(mark):
    loop = (
        "import signal, os\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "for _ in range(3): os.fork()\nwhile True: pass"
    )
    marked = mark(notebook(SOLUTIONS, first=(loop,)), unit_cpu_seconds=4)
    assert points(marked) == FULL
    assert any("processor time" in flag for flag in marked.flags)


def test_waiting_for_ever_meets_the_wall_clock_after_a_retry_alone(mark):
    wait = "import time\ntime.sleep(10_000)"
    marked = mark(notebook(SOLUTIONS, first=(wait,)), unit_wall_seconds=6)
    assert points(marked) == FULL
    assert any("wait for something" in flag for flag in marked.flags)


def test_memory_of_all_processes_together_is_limited(mark):
    bomb = (
        "import os, time\nhoard = bytearray(400 * 2**20)\nfor i in range(0, len(hoard), 4096): hoard[i] = 1\n"
        "for _ in range(3):\n    if os.fork() == 0:\n"
        "        for i in range(0, len(hoard), 4096): hoard[i] = 2\n        time.sleep(1000)\n"
        "time.sleep(1000)"
    )
    marked = mark(notebook(SOLUTIONS, first=(bomb,)), memory_bytes=3 * 2**29)
    assert points(marked) == FULL
    assert any("GB of memory" in flag for flag in marked.flags)


def test_too_much_memory_in_one_process_is_an_error_of_that_cell(mark):
    marked = mark(notebook(SOLUTIONS, first=("hoard = bytearray(64 * 2**30)",)))
    assert points(marked) == FULL


def test_a_fork_bomb_is_stopped(mark):
    bomb = "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    marked = mark(notebook(SOLUTIONS, first=(bomb,)), unit_cpu_seconds=10)
    assert points(marked) == FULL


def test_a_flood_of_output_costs_nothing_and_is_not_kept(mark, library):
    flood = "for _ in range(20_000): print('x' * 1000)"
    assert points(mark(notebook(SOLUTIONS, first=(flood,)))) == FULL


def test_noise_while_probed_costs_nothing(mark):
    noisy = SOLUTIONS["causal_mask"].replace(
        "    if n_k is None:", "    print('noise' * 100_000)\n    if n_k is None:", 1
    )
    assert points(mark(notebook({**SOLUTIONS, "causal_mask": noisy}))) == FULL


# --- nothing that the student's side says is believed ------------------------------------------


def test_saved_outputs_metadata_and_points_do_not_count(mark):
    cells = notebook()
    for cell in cells:
        cell["metadata"] = {"nbgrader": {"grade": True, "points": 100, "solution": False}}
        if cell["cell_type"] == "code":
            text = "attention: right. All cases are right."
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
            cell["execution_count"] = 1
    assert points(mark(cells)) == ZERO


@pytest.mark.parametrize(
    "cheat",
    [
        "import torch\ntorch.allclose = torch.equal = torch.isclose = lambda *a, **k: True",
        "import course_lib.exercises as e\ne.check = lambda name: True",
        "import course_lib.exercises.probing as p\np.run_probe = lambda *a, **k: None",
        "import course_lib.exercises.values as v\nv.pack = lambda value: b''",
        "import builtins\nbuiltins.isinstance = lambda *a: True",
        "import sys, types\nfor m in ('judging', 'spec'):\n"
        "    sys.modules['course_lib.exercises.' + m] = types.ModuleType(m)",
        "class Yes:\n    def __eq__(self, other): return True\n    def __call__(self, *a, **k): return self\n"
        "attention = causal_mask = padding_mask = SelfAttention = Yes()",
        "import torch\nclass T(torch.Tensor):\n"
        "    @classmethod\n    def __torch_function__(cls, f, types, args=(), kwargs=None): return True\n"
        "def causal_mask(*a, **k): return torch.zeros(3).as_subclass(T)",
        # forged frames: the descriptor is written to directly
        "import os, struct\nfrom course_lib.exercises.values import pack\n"
        "for fd in range(3, 64):\n    for unit in ('attention', 'causal_mask'):\n"
        "        b = pack({'kind': 'begin', 'unit': 'exercise ' + unit})\n"
        "        b2 = pack({'kind': 'outcome', 'exercise': unit, 'case': 0, 'outcome': {'values': {},"
        " 'devices': {}, 'error': None, 'inputs_after': {}}, 'status': 'passed', 'points': 100})\n"
        "        try: os.write(fd, struct.pack('<Q', len(b)) + b + struct.pack('<Q', len(b2)) + b2)\n"
        "        except OSError: pass",
    ],
)
def test_cheating_earns_nothing(mark, cheat):
    assert points(mark(notebook(added=(cheat,)))) == ZERO


@pytest.mark.parametrize(
    "noise",
    [
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'garbage' * 100)\n    except OSError: pass",
        "import os\nfor fd in range(3, 64):\n    try: os.close(fd)\n    except OSError: pass",
        "import os\nfor fd in range(3, 64):\n    try:\n"
        "        for _ in range(3000): os.write(fd, b'\\x00' * 100_000)\n    except OSError: pass",
        "import os, pickle\nclass P:\n    def __reduce__(self): return (os.system, ('touch /tmp/owned',))\n"
        "data = pickle.dumps(P())\nimport struct\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, struct.pack('<Q', len(data)) + data)\n    except OSError: pass",
    ],
)
def test_writing_to_the_graders_pipe_never_stops_the_grader_nor_earns(mark, noise, tmp_path):
    marked = mark(notebook(added=(noise,)), reply_bytes=64 * 2**20)
    assert points(marked) == ZERO
    assert marked.problem == ""


def test_a_module_patched_or_a_forbidden_name_elsewhere_is_flagged(mark):
    patch = "import torch\ntorch.allclose = lambda *a, **k: True"
    helper = "def helper(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)"
    marked = mark(notebook(SOLUTIONS, added=(patch, helper)))
    assert points(marked) == FULL
    assert any("assigns to `torch.allclose`" in flag for flag in marked.flags)
    assert any("scaled_dot_product_attention" in flag for flag in marked.flags)


def test_a_forbidden_call_is_proved_by_the_source_and_gets_no_marks(mark):
    cheat = (
        "def attention(q, k, v, mask=None):\n"
        "    eye = torch.eye(k.shape[-2], dtype=q.dtype).expand(*k.shape[:-1], k.shape[-2])\n"
        "    sdpa = F.scaled_dot_product_attention\n"
        "    return sdpa(q, k, v, attn_mask=mask), sdpa(q, k, eye, attn_mask=mask)"
    )
    found = of(mark(notebook({**SOLUTIONS, "attention": cheat})), "attention")
    assert found.status == "forbidden"
    assert found.points == 0
    assert "scaled_dot_product_attention" in found.reason


def test_the_hidden_input_never_reaches_the_reason(mark):
    leak = (
        "def attention(q, k, v, mask=None):\n"
        "    said = 'HID' + 'DEN' + str(q.flatten()[0].item()).replace('.', '')\n"
        "    raise type(said, (Exception,), {})(said)"
    )
    found = of(mark(notebook({**SOLUTIONS, "attention": leak})), "attention")
    assert found.status == "failed"
    assert "HIDDEN" not in found.reason + found.label
    assert "an exception" in found.reason


def test_another_lessons_notebook_is_flagged(mark):
    cells = [{"cell_type": "code", "metadata": {}, "source": "x = 1"}]
    marked = mark(cells)
    assert points(marked) == ZERO
    assert any("another lesson" in flag for flag in marked.flags)


def test_experiments_run_only_where_something_needs_them(mark, lesson):
    from course_lib.grading.intake import parse_notebook
    from course_lib.grading.notebook import plan

    def run(cells):
        return [cell.source for cell in plan(lesson, parse_notebook(as_bytes(cells))).cells]

    assert not any("scores_of_experiment" in source for source in run(notebook(SOLUTIONS)))
    # a parameter or local of the same name is no use of the experiment's
    local = "def f(table):\n    scores_of_experiment = 2\n    return scores_of_experiment + table"
    assert not any("10**9" in source for source in run(notebook(SOLUTIONS, added=(local,))))
    used = "def g():\n    return table[1]"
    assert any("10**9" in source for source in run(notebook(SOLUTIONS, added=(used,))))


class _Broken:
    """A sandbox that never starts."""

    def run(self, request, limits):
        return Response(stop=Stop("start", "died"), output="bwrap: no such thing")


def test_a_sandbox_that_does_not_start_is_no_zero_but_a_problem(lesson):
    drawn = cases.draw(EXERCISES, b"a secret of the tests", draws=1)
    marked = Marker(lesson, drawn, _Broken(), Limits()).mark(submission(notebook(SOLUTIONS)))
    assert "did not start" in marked.problem
    assert {each.status for each in marked.marks} == {"not-graded"}


def test_stubs_are_stubs():
    assert all("raise NotImplementedError()" in text for text in STUBS.values())
    assert not any("softmax(dim" in text for text in STUBS.values())
