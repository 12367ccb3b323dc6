"""Objects that say what the asker wants to hear."""

from hostile.case import FULL, SOLUTIONS, ZERO, Case, blank_with, with_answers, without

WHY = "What comes back is taken as plain arrays and compared outside: an object's own word counts nothing."

YES = """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __call__(self, *a, **k): return self
    def __getattr__(self, name): return self
    def __iter__(self): return iter((self, self))
    def __instancecheck__(self, x): return True
    def __float__(self): return 1.0
attention = causal_mask = padding_mask = SelfAttention = Yes()
"""
SUBCLASS = """
class Liar(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True
def causal_mask(*a, **k): return torch.zeros(3).as_subclass(Liar)
def padding_mask(*a, **k): return torch.zeros(3).as_subclass(Liar)
def attention(*a, **k): return (torch.zeros(3).as_subclass(Liar),) * 2
"""
SHAPES = """
class Liar(torch.Tensor):
    shape = property(lambda self: type('S', (tuple,), {'__eq__': lambda s, o: True, '__ne__': lambda s, o: False})())
    dtype = property(lambda self: torch.bool)
    def detach(self): return self
    def cpu(self): return self
    def clone(self, **k): return self
def causal_mask(*a, **k): return torch.ones(1).as_subclass(Liar)
def padding_mask(*a, **k): return torch.ones(1).as_subclass(Liar)
"""
STRINGS = """
class Word(str):
    def __eq__(self, other): return True
    def __hash__(self): return 1
class Number(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
def causal_mask(*a, **k): return Word('meta')
def padding_mask(*a, **k): return Number(1)
def attention(*a, **k): return Number(1), Word('x')
"""
TUPLE = """
class Pair(tuple):
    def __len__(self): return 2
    def __iter__(self): return iter((None, None))
    def __eq__(self, other): return True
def attention(*a, **k): return Pair()
class SelfAttention(nn.Module):
    def __init__(self, *a): super().__init__()
    def load_state_dict(self, *a, **k): return True
    def forward(self, *a, **k): return Pair()
"""
MAPPING = """
from collections.abc import Mapping
class All(Mapping):
    def __getitem__(self, key): return torch.ones(1)
    def __iter__(self): return iter(('mask', 'output', 'weights'))
    def __len__(self): return 3
    def __contains__(self, key): return True
def causal_mask(*a, **k): return All()
def padding_mask(*a, **k): return All()
def attention(*a, **k): return All(), All()
"""
NAN = """
def attention(q, k, v, mask=None):
    nan = float('nan')
    return torch.full((*q.shape[:-1], v.shape[-1]), nan), torch.full((*q.shape[:-1], k.shape[-2]), nan)
"""
BROADCAST = """
def padding_mask(lengths, n_k):
    return torch.ones(1, dtype=torch.bool).expand(len(lengths), 1, n_k)
"""
DEVICE = """
class Elsewhere(torch.Tensor):
    device = property(lambda self: torch.device('meta'))
def causal_mask(n_q, n_k=None, device=None):
    n_k = n_q if n_k is None else n_k
    made = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
    return made.as_subclass(Elsewhere) if str(device) == 'meta' else made
"""
LATE = """
class Later(nn.Module):
    calls = 0
    def __new__(cls, *a, **k):
        return super().__new__(cls)
    def __getattribute__(self, name):
        return object.__getattribute__(self, name)
class SelfAttention(Later):
    def load_state_dict(self, state, *a, **k): self.state = state
    def parameters(self, *a, **k): return iter(())
    def named_parameters(self, *a, **k): return iter(())
    def forward(self, x, *a, **k): return x, x
"""
HOARD = SOLUTIONS["causal_mask"].replace(
    "    if n_k is None:",
    "    class Kept(torch.Tensor):\n        def __del__(self):\n            raise ValueError('no')\n"
    "    if n_k is None:",
    1,
)

CASES = [
    Case("an object equal to everything", WHY, blank_with(YES), ZERO),
    Case("a tensor whose every function says True", WHY, blank_with(SUBCLASS), ZERO),
    Case("a tensor that lies about shape and dtype", WHY, blank_with(SHAPES), ZERO),
    Case("strings and floats equal to everything", WHY, blank_with(STRINGS), ZERO),
    Case("an empty tuple of length two", WHY, blank_with(TUPLE), ZERO),
    Case("a mapping that holds every key", WHY, blank_with(MAPPING), ZERO),
    Case("NaN everywhere", "NaN is no answer.", with_answers(attention=NAN), without("attention")),
    Case(
        "one value broadcast to the right shape",
        "A mask that hides nothing is wrong.",
        with_answers(padding_mask=BROADCAST),
        without("padding_mask"),
    ),
    Case(
        "a tensor that lies about its device",
        "The mask is made on the CPU whatever `device` says.",
        with_answers(causal_mask=DEVICE),
        without("causal_mask"),
    ),
    Case("a module that takes its weights and forgets them", WHY, blank_with(LATE), ZERO),
    Case(
        "a right answer that defines a class which raises when collected",
        "The values are right; what a class could do is no harm.",
        with_answers(causal_mask=HOARD),
        FULL,
    ),
    Case(
        "a right answer given as a tensor subclass",
        "A subclass of Tensor with right values is right.",
        with_answers(
            padding_mask="class Mask(torch.Tensor):\n    pass\n"
            "def padding_mask(lengths, n_k):\n"
            "    return (torch.arange(n_k) < lengths[:, None])[:, None, :].as_subclass(Mask)"
        ),
        FULL,
    ),
    Case(
        "a right answer given as a parameter",
        "A parameter is a tensor.",
        with_answers(
            padding_mask="def padding_mask(lengths, n_k):\n"
            "    made = (torch.arange(n_k) < lengths[:, None])[:, None, :]\n"
            "    return nn.Parameter(made, requires_grad=False)"
        ),
        FULL,
    ),
]
