"""Values cross a process boundary unchanged, and nothing else does."""

import collections
import enum
import json
import math
import pickle
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from course_lib.exercises.values import MOST_BITS, Limits, pack, plain, unpack

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw a tensor of any dtype and shape, 0-d and empty ones too, with NaN, ±inf and −0.0 among floats."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype == torch.bool:
        numbers: Any = st.booleans()
    elif dtype.is_floating_point or dtype.is_complex:
        numbers = st.floats(width=16) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])
    else:
        numbers = st.integers(torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    flat = draw(st.lists(numbers, min_size=count, max_size=count))
    return torch.tensor(flat, dtype=dtype).reshape(shape)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**MOST_BITS) + 1, 2**MOST_BITS - 1)
    | st.floats()
    | st.text()
    | tensors()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


def alike(one: Any, other: Any) -> bool:
    """Tell whether two values are the same to the last bit, type by type."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.contiguous().flatten().view(torch.uint8).tolist()
            == other.contiguous().flatten().view(torch.uint8).tolist()
        )
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    return one == other


@given(VALUES)
@example({"t": "0", "f": 1.5, "u": (), "d": {}, "": [[], ()]})  # the names of the encoding itself
@example([torch.tensor(-0.0), torch.tensor(3), torch.empty(0, 3), True, 1, 1.0, -0.0])
@example(["\ud800", "\x00", (((),),)])
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert alike(unpack(pack(value)), value)


def test_nan_keeps_being_nan() -> None:
    back = unpack(pack({"number": math.nan, "tensor": torch.tensor([math.nan, 1.0])}))
    assert math.isnan(back["number"])
    assert back["tensor"].isnan().tolist() == [True, False]


@given(VALUES)
def test_the_same_value_gives_the_same_bytes(value: Any) -> None:
    assert pack(value) == pack(plain(value))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[::3],
        torch.tensor([1.0]).expand(4),
        torch.arange(6.0).requires_grad_(),
        nn.Parameter(torch.ones(2)),
        torch.tensor([1 + 2j]).conj(),
        torch.tensor([1 + 2j]).conj().imag,
    ],
    ids=["transposed", "strided", "expanded", "with gradient", "a Parameter", "conj", "neg"],
)
def test_views_and_parameters_become_plain_tensors(tensor: Tensor) -> None:
    for copied in (plain(tensor), unpack(pack(tensor))):
        assert type(copied) is Tensor
        assert copied.is_contiguous()
        assert not copied.requires_grad
        assert not copied.is_conj()
        assert not copied.is_neg()
        assert torch.equal(copied, tensor.detach())
        assert copied.data_ptr() != tensor.data_ptr()


def test_equal_tensors_that_share_memory_cross_side_by_side() -> None:
    shared = torch.arange(4.0)
    one, other = unpack(pack([shared, shared[1:]]))
    assert torch.equal(one, shared)
    assert torch.equal(other, shared[1:])


class Agreeing(Tensor):
    """A tensor that equals everything."""

    def __eq__(self, other: Any) -> Any:
        return torch.ones(self.shape, dtype=torch.bool)

    def cpu(self) -> Any:
        return self

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        return self


def test_a_tensor_subclass_is_stripped() -> None:
    agreeing = torch.ones(2).as_subclass(Agreeing)
    assert bool((agreeing == torch.zeros(2)).all())
    for copied in (plain(agreeing), plain([{"a": (agreeing,)}])[0]["a"][0], unpack(pack(agreeing))):
        assert type(copied) is Tensor
        assert copied.tolist() == [1.0, 1.0]
        assert not bool((copied == torch.zeros(2)).any())


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    pass


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        {"a": {2.0: 1}},
        {1, 2},
        b"bytes",
        1j,
        np.float64(1.0),
        np.ones(2),
        Colour.RED,
        Text("a"),
        len,
        [1, [object()]],
        2**MOST_BITS,
        -(2**MOST_BITS),
        10**5000,
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^(an?|of type) "):
        plain(value)
    with pytest.raises(TypeError):
        pack(value)


def test_a_named_tuple_and_a_mapping_become_plain() -> None:
    found = plain({"point": Point(1, 2.0), "counts": collections.Counter("aab")})
    assert type(found["point"]) is tuple
    assert type(found["counts"]) is dict
    assert found == {"point": (1, 2.0), "counts": {"a": 2, "b": 1}}


# --- bytes that nobody packed --------------------------------------------------------------------


def packed(tree: Any, tensors: bytes | None = None) -> bytes:
    """Return bytes in the form of a packed value, around any tree."""
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    blob = pack(None)
    empty = blob[8 + len(b"null") :]
    return struct.pack("<Q", len(text)) + text + (empty if tensors is None else tensors)


def test_the_form_of_these_tests_is_the_real_one() -> None:
    assert unpack(packed({"u": [1, {"f": "0x1.8p+1"}]})) == (1, 3.0)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed value|its tree is longer"):
        unpack(blob)


@given(st.binary(max_size=60), st.binary(max_size=200))
def test_random_parts_are_refused_or_a_value(tree: bytes, tensors: bytes) -> None:
    for blob in (packed(tree), packed(tree, tensors), packed(None, tensors)):
        try:
            value = unpack(blob)
        except ValueError:
            continue
        assert alike(unpack(pack(value)), value)


@given(VALUES, st.data())
def test_truncated_bytes_are_refused(value: Any, data: st.DataObject) -> None:
    blob = pack(value)
    end = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(ValueError, match=r"packed value|its tree is longer"):
        unpack(blob[:end])


@given(VALUES, st.data())
def test_a_changed_byte_is_refused_or_a_value(value: Any, data: st.DataObject) -> None:
    blob = bytearray(pack(value))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(blob))
    except ValueError:
        return
    pack(found)


@pytest.mark.parametrize(
    "tree",
    [
        1.5,
        math.nan,
        {},
        {"a": 1},
        {"t": "0"},
        {"t": 0},
        {"t": ["0"]},
        {"f": 1},
        {"f": "one"},
        {"f": "0x1p99999"},
        {"u": {"d": {}}},
        {"d": []},
        {"u": [], "d": {}},
        b"[1,",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"1" * 5000,
        b"",
        b"null null",
    ],
    ids=lambda tree: str(tree)[:20],
)
def test_a_malformed_tree_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"packed value|hexadecimal"):
        unpack(packed(tree))


class Trap:
    """Unpickling this would be seen."""

    sprung = False

    def __reduce__(self) -> Any:
        return (setattr, (Trap, "sprung", True))


def test_a_pickle_is_refused_and_never_run() -> None:
    bomb = pickle.dumps(Trap())
    for blob in (bomb, packed(bomb), packed(None, bomb), packed({"t": "0"}, bomb)):
        with pytest.raises(ValueError, match=r"packed value|its tree is longer"):
            unpack(blob)
    assert Trap.sprung is False


def test_limits_are_kept() -> None:
    deep: Any = 1
    for _ in range(10):
        deep = [deep]
    big = torch.zeros(1000, dtype=torch.float64)
    cases = [
        (deep, Limits(depth=10), Limits(depth=9), "deeply nested"),
        ([0] * 50, Limits(nodes=51), Limits(nodes=50), "too many"),
        ("a" * 98, Limits(tree_bytes=100), Limits(tree_bytes=99), "tree is longer"),
        (
            big,
            Limits(total_bytes=len(pack(big))),
            Limits(total_bytes=len(pack(big)) - 1),
            "more than",
        ),
    ]
    for value, enough, too_little, says in cases:
        blob = pack(value)
        assert alike(unpack(blob, enough), value)
        with pytest.raises(ValueError, match=says):
            unpack(blob, too_little)


def test_a_length_beyond_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="tree is longer"):
        unpack(struct.pack("<Q", 2**63) + b"null")
    with pytest.raises(ValueError, match="too short"):
        unpack(b"1234567")
