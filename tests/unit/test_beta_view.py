"""The β view: bars of both policies, and where the best one lies."""

import matplotlib.pyplot as plt
import pytest
import torch

from course_lib.posttraining.enumerable import closed_form, kl_divergence
from course_lib.widgets.beta_view import draw_beta

REFERENCE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
REWARDS = torch.tensor([-1.0, 2.0, 0.5], dtype=torch.float64)


def place(beta: float) -> tuple[float, float]:
    """Return the divergence of the best policy and its mean reward."""
    policy = closed_form(REFERENCE, REWARDS, beta)
    return kl_divergence(policy, REFERENCE).item(), (policy.exp() * REWARDS).sum().item()


@pytest.mark.parametrize("beta", [0.1, 1.0, 30.0])
def test_bars_are_probabilities_and_the_dot_lies_on_the_curve(beta: float) -> None:
    nats, rewards = zip(*(place(10 ** (k / 10)) for k in range(-15, 16)))
    best = closed_form(REFERENCE, REWARDS, beta).exp().tolist()
    figure = draw_beta(
        ["a .", "b .", "c ."], REWARDS.tolist(), REFERENCE.exp().tolist(), best, (nats, rewards),
        place(beta), f"β = {beta}",
    )  # fmt: skip
    bars, plane = figure.axes
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == pytest.approx([0.6, 0.3, 0.1, *best])
    assert [label.get_text() for label in bars.get_yticklabels()] == [
        "a .  (-1.0)",
        "b .  (+2.0)",
        "c .  (+0.5)",
    ]
    curve, dot = plane.lines
    assert len(curve.get_xdata()) == 31
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx(place(beta))
    assert plane.get_title(loc="left") + plane.get_title() == f"β = {beta}"
    assert f"{place(beta)[0]:.2f} nats" in plane.texts[0].get_text()
    plt.close(figure)
