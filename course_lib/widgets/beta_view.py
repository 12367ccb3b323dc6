"""What β does where every reply can be listed: the best policy between the reference and the reward."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_lib.figures import PALETTE


def draw_beta(
    replies: Sequence[str],
    rewards: Sequence[float],
    reference: Sequence[float],
    best: Sequence[float],
    curve: tuple[Sequence[float], Sequence[float]],
    here: tuple[float, float],
    title: str = "",
) -> Figure:
    """Draw some replies under both policies, and where the best one lies between the two things it weighs.

    Args:
        replies: the replies that are shown.
        rewards: of each.
        reference: its probability under the reference.
        best: its probability under the best policy.
        curve: for many β, the divergence of the best policy from the reference in nats, and its mean reward.
        here: both for the β that is shown.
        title: what the right panel shows.

    Returns:
        The figure.

    """
    figure: Figure
    figure, (bars, plane) = plt.subplots(
        1, 2, figsize=(10.2, 0.9 + 0.3 * len(replies)), width_ratios=[1.15, 1]
    )
    places = range(len(replies))
    bars.barh([y - 0.2 for y in places], reference, 0.38, color=PALETTE["grey"], label="reference")
    bars.barh([y + 0.2 for y in places], best, 0.38, color=PALETTE["blue"], label="best policy")
    bars.set_yticks(places, [f"{text}  ({worth:+.1f})" for text, worth in zip(replies, rewards)])
    bars.invert_yaxis()
    bars.set(xlim=(0, 1), xlabel="probability", title="Replies (their reward)")
    bars.grid(axis="y", visible=False)
    bars.legend(loc="lower right", fontsize=8)
    plane.plot(*curve, color=PALETTE["grey"], marker="")
    plane.plot(*here, color=PALETTE["blue"], marker="o", markersize=9)
    late = here[0] > 0.55 * max(curve[0])
    plane.annotate(
        f"{here[0]:.2f} nats, reward {here[1]:.2f}", here, (-12 if late else 12, -14),
        textcoords="offset points", ha="right" if late else "left", fontsize=9,
    )  # fmt: skip
    plane.set(xlabel="KL from the reference (nats)", ylabel="mean reward", title=title)
    return figure
