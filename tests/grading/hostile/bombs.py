"""Forks, threads, memory, endless loops, floods, full disks, and processes that outlive their time."""

from hostile.case import FULL, SOLUTIONS, Case, solved_with, with_answers, without

CELL = "A cell that is stopped costs itself."
SHORT = {"unit_cpu_seconds": 2.0}
SMALL = {"memory_bytes": 3 * 2**29}

IGNORE = (
    "import signal, os\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\n"
)

CASES = [
    Case(
        "forks without end",
        CELL,
        solved_with(
            "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
        ),
        FULL,
        limits=SHORT,
    ),
    Case(
        "threads without end",
        CELL,
        solved_with(
            "import threading, time\ntry:\n"
            "    while True: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
            "except RuntimeError: time.sleep(1000)"
        ),
        FULL,
        flags=("Cell",),
        limits={"processes": 40, "unit_wall_seconds": 10.0},
    ),
    Case(
        "memory in one piece",
        "A refused allocation is an error of its cell.",
        solved_with("hoard = bytearray(64 * 2**30)", "hoard = torch.ones(2**34)"),
        FULL,
    ),
    Case(
        "memory bit by bit",
        CELL,
        solved_with("hoard = []\nwhile True: hoard.append(b'x' * 2**24)"),
        FULL,
        limits=SMALL,
    ),
    Case(
        "memory of many processes together",
        CELL,
        solved_with(
            "import os, time\nhoard = bytearray(400 * 2**20)\nfor i in range(0, len(hoard), 4096): hoard[i] = 1\n"
            "for _ in range(3):\n    if os.fork() == 0:\n        for i in range(0, len(hoard), 4096): hoard[i] = 2\n"
            "        time.sleep(1000)\ntime.sleep(1000)"
        ),
        FULL,
        flags=("GB of memory",),
        limits=SMALL,
    ),
    Case(
        "an endless loop that ignores every signal",
        CELL,
        solved_with(IGNORE + "while True: pass"),
        FULL,
        flags=("processor time",),
        limits=SHORT,
    ),
    Case(
        "an endless loop in C: a regular expression",
        CELL,
        solved_with(IGNORE + "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')"),
        FULL,
        flags=("processor time",),
        limits=SHORT,
    ),
    Case(
        "an endless loop in C: arithmetic",
        CELL,
        solved_with(IGNORE + "x = 7 ** (10 ** 9)"),
        FULL,
        flags=("processor time",),
        limits=SHORT,
    ),
    Case(
        "an endless loop in a child that left the group",
        CELL,
        solved_with(
            IGNORE + "if os.fork() == 0:\n    os.setsid()\n    while True: pass\nos.wait()"
        ),
        FULL,
        flags=("processor time",),
        limits=SHORT,
    ),
    Case(
        "an endless loop in an exercise",
        "The exercise is lost, and no other.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    while True:\n        pass"
        ),
        without("causal_mask"),
        limits=SHORT,
        says={"causal_mask": "endless loop"},
    ),
    Case(
        "an endless loop in a metaclass",
        "The exercise is lost, and no other.",
        with_answers(
            SelfAttention="class Meta(type(nn.Module)):\n    def __call__(cls, *a, **k):\n        while True: pass\n"
            "class SelfAttention(nn.Module, metaclass=Meta):\n    pass"
        ),
        without("SelfAttention"),
        limits=SHORT,
    ),
    Case(
        "waiting for ever",
        CELL,
        solved_with("import time\ntime.sleep(10_000)"),
        FULL,
        flags=("wait for something",),
        limits={"unit_wall_seconds": 6.0},
    ),
    Case(
        "a flood of output",
        "What is printed is cut off and costs nothing.",
        solved_with(
            "for _ in range(20_000): print('x' * 1000)",
            "import sys\nfor _ in range(2000): sys.stderr.write('y' * 10_000)",
        ),
        FULL,
    ),
    Case(
        "a flood of output while being asked",
        "What is printed costs nothing.",
        with_answers(
            causal_mask=SOLUTIONS["causal_mask"].replace(
                "    if n_k is None:", "    print('noise' * 100_000)\n    if n_k is None:", 1
            )
        ),
        FULL,
    ),
    Case(
        "a disk filled, in one file and in many",
        CELL,
        solved_with(
            "for place in ('/tmp', '/dev/shm'):\n    try:\n        for n in range(10_000):\n"
            "            with open(f'{place}/{n}', 'wb') as f: f.write(bytes(2**22))\n    except OSError: pass",
            "with open('/tmp/big', 'wb') as f:\n    while True: f.write(bytes(2**24))",
        ),
        FULL,
        limits={"file_bytes": 32 * 2**20},
    ),
    Case(
        "twenty thousand files",
        "They fit into what one submission may use, or are refused.",
        solved_with(
            "try:\n    for n in range(20_000): open(f'/tmp/{n}', 'w').close()\nexcept OSError: pass"
        ),
        FULL,
    ),
    Case(
        "an answer of 120 MB",
        "More than may be sent back.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    return torch.zeros(3 * 10**7)"
        ),
        without("causal_mask"),
    ),
    Case(
        "an answer that claims 10¹² numbers",
        "A view of one number is not as large as it says; it is wrong.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    return torch.zeros(1).expand(10**12)"
        ),
        without("causal_mask"),
    ),
    Case(
        "an answer nested 100,000 deep",
        "It cannot be sent.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    deep = []\n"
            "    for _ in range(100_000): deep = [deep]\n    return deep"
        ),
        without("causal_mask"),
    ),
    Case(
        "a list that holds itself",
        "It cannot be sent.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    me = []\n    me.append(me)\n    return me"
        ),
        without("causal_mask"),
    ),
    Case(
        "an integer of ten thousand digits",
        "It is no mask.",
        with_answers(
            causal_mask="def causal_mask(n_q, n_k=None, device=None):\n    return 10 ** 10_000"
        ),
        without("causal_mask"),
    ),
    Case(
        "processes that stay behind",
        "They end with the run.",
        solved_with(
            "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        os.setsid()\n"
            "        if os.fork() == 0:\n"
            "            time.sleep(10_000)\n        os._exit(0)",
            "import subprocess\nsubprocess.Popen(['sleep', '10000'], start_new_session=True)\n"
            "get_ipython().system('nohup sleep 10000 >/dev/null 2>&1 &')",
        ),
        FULL,
    ),
]
