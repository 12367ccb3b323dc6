"""Looking for the grader: frames, the garbage collector, descriptors, ptrace, /proc."""

from hostile.case import FULL, ZERO, Case, blank_with, solved_with, with_answers, without

WHY = "What decides is in another process: there is nothing to find here."

FRAMES = """
import sys, gc
def expected():
    frame = sys._getframe()
    while frame:
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if 'oracle' in dir(value) or 'mistakes' in dir(value): print('STO' + 'LEN an exercise')
        for name in ('oracle', 'secret', 'points', 'KnownAnswers', 'mistakes'):
            if name in frame.f_locals: print('STO' + 'LEN', name)
        frame = frame.f_back
def causal_mask(*a, **k): return expected()
def padding_mask(*a, **k): return expected()
def attention(*a, **k): return expected()
expected()
"""
GARBAGE = """
import gc
for thing in gc.get_objects():
    kind = type(thing).__name__
    if kind in ('Exercise', 'Mistake', 'KnownAnswers', 'Marker', 'Gradebook', 'Submission'):
        print('STO' + 'LEN', kind)
"""
LEFT_IN_MEMORY = """
import gc, torch
cases = [each for each in gc.get_objects() if type(each) is dict and 'cotangent' in each]
def attention(q, k, v, mask=None):
    for each in gc.get_objects():
        if type(each) is dict and 'output' in each and 'weights' in each:
            return each['output'], each['weights']
    return q, k
"""
DESCRIPTORS = """
import os, struct
from course_lib.exercises.values import pack
def frames(*values):
    return b''.join(struct.pack('<Q', len(b)) + b for b in map(pack, values))
right = {'values': {}, 'devices': {}, 'error': None, 'inputs_after': {}, 'status': 'passed', 'points': 100}
data = frames({'kind': 'cell', 'index': 0, 'error': None},
    *[frame for unit in ('attention', 'causal_mask', 'padding_mask', 'SelfAttention') for frame in (
        {'kind': 'begin', 'unit': 'exercise ' + unit}, *(
        {'kind': 'outcome', 'exercise': unit, 'case': n, 'outcome': right} for n in range(100)))],
    {'kind': 'done'})
for fd in range(3, 64):
    try: os.write(fd, data)
    except OSError: pass
"""
INSERTED = """
import os, struct, sys
from course_lib.exercises.values import pack
def say(*values):
    for value in values:
        b = pack(value)
        for fd in range(3, 64):
            try: os.write(fd, struct.pack('<Q', len(b)) + b)
            except OSError: pass
def causal_mask(n_q, n_k=None, device=None):
    ok = {'values': {'mask': torch.ones(1, 1, dtype=torch.bool), 'device of the mask': 'meta'},
          'devices': {'mask': 'cpu'}, 'error': None, 'inputs_after': {'n_q': 1, 'n_k': None, 'x': torch.zeros(1)}}
    for number in range(100): say({'kind': 'outcome', 'exercise': 'causal_mask', 'case': number, 'outcome': ok})
"""
PICKLE = """
import os, pickle, struct
class P:
    def __reduce__(self): return (os.system, ('touch @FOLDER@/owned /tmp/owned',))
data = pickle.dumps(P())
for fd in range(3, 64):
    try: os.write(fd, struct.pack('<Q', len(data)) + data)
    except OSError: pass
"""
HUGE = """
import os, struct
for fd in range(3, 64):
    try: os.write(fd, struct.pack('<Q', 2**63 - 1) + b'x' * 1000)
    except OSError: pass
"""
NESTED = """
import os, json, struct
tree = ('[' * 200000 + ']' * 200000).encode()
body = struct.pack('<Q', len(tree)) + tree + struct.pack('<Q', 2) + b'{}'
for fd in range(3, 64):
    try:
        left = memoryview(struct.pack('<Q', len(body)) + body)
        while left: left = left[os.write(fd, left):]
    except OSError: pass
"""
PTRACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in [1, os.getppid(), @PID@, *range(2, 300)]:
    if pid != os.getpid() and libc.ptrace(16, pid, 0, 0) == 0: print('STO' + 'LEN: attached to', pid)
buffer = ctypes.create_string_buffer(64)
class V(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('n', ctypes.c_size_t)]
here, there = V(ctypes.addressof(buffer), 64), V(ctypes.addressof(buffer), 64)
for pid in (1, os.getppid(), @PID@):
    got = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    if got > 0: print('STO' + 'LEN memory of', pid)
"""
PROC = """
import glob, os
for place in glob.glob('/proc/[0-9]*') + ['/proc/@PID@', f'/proc/{os.getppid()}', '/proc/1']:
    if place.endswith(f'/{os.getpid()}'): continue
    for name in ('environ', 'cmdline', 'maps', 'mem', 'root/etc/shadow', 'cwd/gradebook.sqlite'):
        try: text = open(f'{place}/{name}', 'rb').read(1 << 16)
        except (OSError, ValueError): continue
        if b'COURSE_CANARY' in text or b'pytest' in text or b'gradebook' in text: print('STO' + 'LEN', place, name)
    try:
        for fd in os.listdir(f'{place}/fd'):
            leads_to = os.readlink(f'{place}/fd/{fd}')
            if leads_to.startswith(('pipe:', 'anon_inode:[eventfd]', '/dev/null')): continue  # its own sandbox's
            open(f'{place}/fd/{fd}', 'wb').write(b'x'); print('STO' + 'LEN a descriptor of', place, leads_to)
    except OSError: pass
"""
EMPTIED = """
import sys
def causal_mask(n_q, n_k=None, device=None):
    frame = sys._getframe()
    while frame:
        for asked in frame.f_locals.get('exercises', ()): asked['cases'].clear()
        frame = frame.f_back
    n_k = n_q if n_k is None else n_k
    return torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(n_k - n_q)
"""

CASES = [
    Case("frames up to the runner", WHY, blank_with(FRAMES), ZERO),
    Case("everything the garbage collector knows", WHY, blank_with(GARBAGE), ZERO),
    Case("results looked for in memory", WHY, blank_with(LEFT_IN_MEMORY), ZERO),
    Case(
        "forged frames on every descriptor",
        "A forged frame must be right to earn.",
        blank_with(DESCRIPTORS),
        ZERO,
    ),
    Case(
        "forged outcomes while being asked",
        "A forged frame must be right to earn.",
        blank_with(INSERTED),
        ZERO,
    ),
    Case("a pickle for the grader", "No pickle is ever loaded.", blank_with(PICKLE), ZERO),
    Case("a frame that says it is huge", "Lengths are limited.", blank_with(HUGE), ZERO),
    Case("a frame nested 200,000 deep", "Depth is limited.", blank_with(NESTED), ZERO),
    Case("ptrace and other processes' memory", WHY, solved_with(PTRACE), FULL),
    Case("/proc of other processes", WHY, solved_with(PROC), FULL),
    Case(
        "the cases in the runner's frame are taken away",
        "What was not asked earns nothing; what is asked again in another run does.",
        with_answers(causal_mask=EMPTIED),
        without("causal_mask", "padding_mask"),
    ),
    Case(
        "every descriptor is closed",
        "The cell that cut the pipe is left out.",
        solved_with("import os\nos.closerange(0, 256)"),
        FULL,
    ),
    Case(
        "rubbish on every descriptor",
        "The cell that wrote it is left out.",
        solved_with(
            "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'rubbish' * 100)\n    except OSError: pass"
        ),
        FULL,
    ),
]
