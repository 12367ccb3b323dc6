"""What every attention must do: not see the future, not feel padding, not suffer from a silent row.

A layer is given as a function of tensors, so that modules of any signature can be asked.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def assert_the_future_is_hidden(
    layer: Callable[[Tensor], Tensor], x: Tensor, noise: float = 1e3
) -> None:
    """Change what follows each position, and look whether anything before it moves: it must not, at all.

    Args:
        layer: a causal layer: (B, n, d) to (B, n, …), without dropout.
        x: (B, n, d) an input with n ≥ 2.
        noise: how far the future is moved.

    """
    x = x.detach().clone().requires_grad_()
    output = layer(x)
    for position in range(1, x.shape[1]):
        changed = x.detach().clone()
        changed[:, position:] += noise * torch.randn_like(changed[:, position:])
        after = layer(changed)
        assert torch.equal(after[:, :position], output[:, :position]), (
            f"what stands at position {position} and later is seen before it"
        )
        assert not torch.allclose(after[:, position], output[:, position]), (
            f"position {position} does not see itself"
        )
        (gradient,) = torch.autograd.grad(output[:, position - 1].sum(), x, retain_graph=True)
        assert not gradient[:, position:].any(), f"a gradient flows to position {position}"
        assert gradient[:, :position].any(), f"position {position - 1} sees nothing"


def assert_padding_changes_nothing(
    layer: Callable[[Tensor, Tensor], Tensor],
    sentences: Sequence[Tensor],
    n: int,
    tolerance: float = 1e-12,
) -> None:
    """Compare each sentence alone with the same sentence in a padded batch, whatever the filling.

    Args:
        layer: (B, n, d) and lengths (B,) to (B, n, …), without dropout.
        sentences: some (length, d), none empty, none longer than n.
        n: the padded length.
        tolerance: how far the outputs at real positions may differ from those of the sentence alone.

    """
    lengths = torch.tensor([len(each) for each in sentences])
    alone = [layer(each[None], lengths[i : i + 1])[0] for i, each in enumerate(sentences)]
    before: list[Tensor] | None = None
    for filling in (0.0, 1.0, 1e3):
        x = filling * torch.randn(
            len(sentences), n, sentences[0].shape[-1], dtype=sentences[0].dtype
        )
        for row, sentence in enumerate(sentences):
            x[row, : len(sentence)] = sentence
        x.requires_grad_()
        output = layer(x, lengths)
        real = [output[row, :length] for row, length in enumerate(lengths)]
        for got, expected in zip(real, alone):
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        if before is not None:
            assert all(torch.equal(*pair) for pair in zip(real, before)), "the filling is felt"
        before = [each.detach() for each in real]
        (gradient,) = torch.autograd.grad(sum(each.sum() for each in real), x)
        for row, length in enumerate(lengths):
            assert not gradient[row, length:].any(), "a gradient flows into the padding"
            assert gradient[row, :length].any(), "the sentence itself is not heard"


def assert_an_empty_sentence_is_silent(
    layer: Callable[[Tensor, Tensor], Tensor], x: Tensor, empty: int = 0
) -> None:
    """Give one sentence of a batch the length 0: no NaN anywhere, zeros and no gradient there.

    Args:
        layer: (B, n, d) and lengths (B,) to (B, n, …), without dropout and without biases.
        x: (B, n, d) with B ≥ 2.
        empty: which sentence has no real token.

    """
    lengths = torch.full((len(x),), x.shape[1])
    lengths[empty] = 0
    x = x.detach().clone().requires_grad_()
    with torch.autograd.detect_anomaly(check_nan=True):
        output = layer(x, lengths)
        (gradient,) = torch.autograd.grad(output.square().sum() + output.sum(), x)
    assert not output[empty].any(), "an empty sentence says something"
    assert not gradient[empty].any(), "a gradient flows into an empty sentence"
    others = torch.arange(len(x)) != empty
    for each in (output, gradient):
        assert each.isfinite().all()
        assert each[others].any(), "the other sentences are not heard"
