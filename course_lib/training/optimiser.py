"""AdamW with two groups of parameters, and the learning rate of each step (lesson 13)."""

import math

import torch
from torch import nn


def configure_optimizer(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.AdamW:
    """Return AdamW for a model, with weight decay for its matrices alone.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization". Matrices and tables (two axes or
    more) decay; biases and the scales and shifts of norms (one axis) do not. A parameter that stands in
    two places is updated once; one that needs no gradient is left out.

    Args:
        model: whose parameters are updated.
        learning_rate: of both groups.
        weight_decay: of the first group; the second has 0.
        betas: Adam's two averages.

    Returns:
        An optimiser with two groups, the decaying one first.

    """
    ### BEGIN SOLUTION
    learnt = [each for each in model.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in learnt if each.ndim >= 2], "weight_decay": weight_decay},
        {"params": [each for each in learnt if each.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)
    ### END SOLUTION


def lr_at(step: int, peak: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Return the learning rate of a step: a straight rise to ``peak``, then half a cosine down to ``floor``.

    Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1;
    Loshchilov & Hutter 2017, "SGDR", equation 5.

    Args:
        step: counted from 0.
        peak: the highest rate.
        warmup: the number of steps in which the rate rises, from peak / warmup at step 0 to ``peak`` at
            step ``warmup`` − 1; may be 0.
        total: the number of steps in all; from step ``total`` on the rate is ``floor``.
        floor: the lowest rate.

    """
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total:
        return floor
    done = (step - warmup) / (total - warmup)  # from 0 to 1
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * done))
    ### END SOLUTION
