"""Nearly identical code: what a copyist changes does not count, and what everyone has does not either."""

import random

import pytest
from submissions import EXERCISES, SOLUTIONS, STUBS

from course_lib.grading.similarity import LEAST_STUDENTS, fingerprints, normalised, stand_out

COPIED = '''
def attention(q, k, v, mask=None):
    """Return the mean of the values, weighted."""
    width = q.shape[-1]
    scores = torch.einsum("...id,...jd->...ij", q, k) / width ** 0.5
    if mask is not None:
        scores = torch.where(mask, scores, torch.full_like(scores, -torch.inf))
    highest = scores.amax(dim=-1, keepdim=True).clamp(min=-1e9)
    weights = (scores - highest).exp()
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return torch.einsum("...ij,...jd->...id", weights, v), weights
'''
DISGUISED = """
# my own work!
def attention(query: Tensor, key: Tensor, value: Tensor, m: Tensor | None = None) -> tuple:
    "Something else."
    n: int = query.shape[-1]
    s = (torch.einsum("...id,...jd->...ij",
                      query, key) / n ** 0.5)  # scaled
    if m is not None:
        s = torch.where(m, s, torch.full_like(s, -torch.inf))
    top = s.amax(dim=-1, keepdim=True).clamp(min=-1e9)
    w = (s - top).exp()
    w = w / w.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return torch.einsum("...ij,...jd->...id", w, value), w
"""


def own_way(seed):
    """Return an answer with steps that nobody else has in this order."""
    draw = random.Random(seed)
    calls = ["exp", "softmax", "tril", "sum", "mean", "amax", "cumsum", "log", "abs", "sqrt", "neg"]
    lines = ["def attention(q, k, v, mask=None):"]
    for number in range(12):
        first, second = draw.choice(calls), draw.choice(calls)
        lines.append(
            f"    x{number} = q.{first}({draw.randint(1, 99)}) {draw.choice('+-*/@')} k.{second}()"
        )
    return "\n".join([*lines, "    return x0, x1"])


def the_class(**cells):
    code = {f"student{number}": {"attention": own_way(number)} for number in range(12)}
    return code | {name: {"attention": source} for name, source in cells.items()}


def found(code, common=(), origins=None):
    return stand_out(code, {"attention": list(common)}, origins or {name: name for name in code})


def test_names_comments_docstrings_layout_and_annotations_do_not_count():
    assert normalised(COPIED) == normalised(DISGUISED)
    assert fingerprints(COPIED) == fingerprints(DISGUISED)
    assert len(fingerprints(COPIED)) > 20
    assert fingerprints(COPIED) != fingerprints(COPIED.replace("einsum", "matmul"))


def test_attributes_that_the_cell_sets_are_local_and_others_are_not():
    mine = "class A:\n    def f(self, x):\n        self.query = nn.Linear(3, 4)\n        return self.query(x)"
    assert normalised(mine) == normalised(mine.replace("query", "wq").replace("A:", "B:"))
    assert normalised(mine) != normalised(mine.replace("Linear", "Bilinear"))


def test_twelve_equal_tokens_leave_a_common_fingerprint():
    piece = "    y = torch.where(mask, scores, other).exp().sum()\n"
    one = f"def f(scores):\n{'    a = 1 + 2 * 3' + chr(10)}{piece}    return 5"
    other = f"def f(scores):\n    for b in (7, 8):\n        print(b)\n{piece}    return [y, 4]"
    assert fingerprints(one) & fingerprints(other)


@pytest.mark.parametrize(
    "source", ["def f(:", "", "x" * 10, "\0", "(" * 5000, "%%bash\nls", "'\ud800'"]
)
def test_what_does_not_parse_or_is_short_has_no_or_one_fingerprint(source):
    assert len(fingerprints(source)) <= 5


def test_a_disguised_copy_stands_out_and_nobody_else():
    result = found(the_class(anna=COPIED, ben=DISGUISED))
    assert [each.students for each in result.pairs] == [("anna", "ben")]
    assert result.pairs[0].similarity == pytest.approx(1)
    assert result.pairs[0].exercises == ("attention",)
    assert 0.6 <= result.threshold <= 0.9


def test_a_copy_with_additions_and_omissions_stands_out():
    longer = COPIED.replace("    highest", "    assert scores.ndim >= 2\n    highest")
    shorter = DISGUISED.replace("    if m is not None:", "    if m != None:")
    assert found(the_class(anna=longer, ben=shorter)).pairs


def test_what_many_have_or_everyone_was_given_does_not_count():
    many = {f"copy{number}": COPIED for number in range(6)}
    assert not found(the_class(**many)).pairs
    assert not found(the_class(anna=COPIED, ben=DISGUISED), common=[COPIED]).pairs


def test_short_answers_that_are_alike_by_nature_are_not_reported():
    for exercise in EXERCISES:
        solved = {f"s{number}": {exercise.name: SOLUTIONS[exercise.name]} for number in range(3)}
        blank = {f"b{number}": {exercise.name: STUBS[exercise.name]} for number in range(3)}
        common = {exercise.name: [STUBS[exercise.name], SOLUTIONS[exercise.name]]}
        code = solved | blank
        assert not stand_out(code, common, {name: name for name in code}).pairs


def test_where_the_whole_class_is_alike_nobody_stands_out():
    near = {
        f"s{number}": {"attention": COPIED.replace("1e-30", f"1e-{number + 3}")}
        for number in range(4)
    } | {"t": {"attention": DISGUISED}}
    result = found(near)
    assert result.threshold is not None
    assert not result.pairs


def test_a_small_class_is_not_compared():
    code = {"anna": {"attention": COPIED}, "ben": {"attention": DISGUISED}}
    assert found(code).threshold is None
    assert len(code) < LEAST_STUDENTS


def test_members_of_a_group_are_not_compared_with_each_other():
    code = the_class(anna=COPIED, ben=COPIED)
    origins = {name: name for name in code} | {"anna": "zip!1/07.ipynb", "ben": "zip!1/07.ipynb"}
    assert not found(code, origins=origins).pairs
