"""Recurrent networks: RNN, LSTM and GRU, backpropagation through time by hand, gradient clipping (lesson 05)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

# --- The plain recurrent network ----------------------------------------------------------------


def rnn_step(
    x: Float[Tensor, "batch d_in"],
    h: Float[Tensor, "batch d_hidden"],
    w_x: Float[Tensor, "d_in d_hidden"],
    w_h: Float[Tensor, "d_hidden d_hidden"],
    b: Float[Tensor, "d_hidden"],
) -> Float[Tensor, "batch d_hidden"]:
    """Take one step of a recurrent network: tanh(x W_x + h W_h + b).

    Elman 1990, "Finding Structure in Time". PyTorch's `nn.RNN` stores the transposed matrices, and two
    biases that only ever occur as their sum.

    Args:
        x: what is read at this step.
        h: the state before it.
        w_x: from input to state.
        w_h: from state to state.
        b: the bias.

    Returns:
        The state after the step.

    """
    ### BEGIN SOLUTION
    return torch.tanh(x @ w_x + h @ w_h + b)  # (B, d)
    ### END SOLUTION


class RNN(nn.Module):
    """Read a sequence with `rnn_step`, the same weights at every step.

    The recurrent matrix starts as a random orthogonal one times ``recurrent_scale``: all its eigenvalues
    then have that absolute value (Saxe, McClelland and Ganguli 2014, section 3).

    Args:
        d_in: the width of what is read at each step.
        d_hidden: the width of the state.
        recurrent_scale: the absolute value of the recurrent matrix's eigenvalues at the start.

    """

    def __init__(self, d_in: int, d_hidden: int, recurrent_scale: float = 1.0) -> None:
        super().__init__()
        self.w_x = nn.Parameter(nn.init.xavier_uniform_(torch.empty(d_in, d_hidden)))
        self.w_h = nn.Parameter(
            nn.init.orthogonal_(torch.empty(d_hidden, d_hidden), recurrent_scale)
        )
        self.b = nn.Parameter(torch.zeros(d_hidden))

    def forward(
        self,
        x: Float[Tensor, "batch n d_in"],
        state: Float[Tensor, "batch d_hidden"] | None = None,
    ) -> tuple[Float[Tensor, "batch n d_hidden"], Float[Tensor, "batch d_hidden"]]:
        """Read a batch of sequences.

        Args:
            x: the sequences, n ≥ 1.
            state: the state before the first step; zeros if not given.

        Returns:
            The state after each step, and the last one.

        """
        h = x.new_zeros(x.shape[0], self.b.shape[0]) if state is None else state  # (B, d)
        outputs = []
        for x_t in x.unbind(dim=1):  # n times (B, d_in)
            h = rnn_step(x_t, h, self.w_x, self.w_h, self.b)  # (B, d)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h  # (B, n, d), (B, d)


def bptt_grad(
    x: Float[Tensor, "batch n d_in"],
    h0: Float[Tensor, "batch d_hidden"],
    h: Float[Tensor, "batch n d_hidden"],
    grad_h: Float[Tensor, "batch n d_hidden"],
    w_x: Float[Tensor, "d_in d_hidden"],
    w_h: Float[Tensor, "d_hidden d_hidden"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Backpropagate through time: the gradients of a loss of an RNN's states, by hand.

    Werbos 1990, "Backpropagation Through Time".

    Args:
        x: the input.
        h0: the state before the first step.
        h: the state after each step, as the forward pass gave it.
        grad_h: the direct gradient: of the loss for each state, all later states held fixed.
        w_x: from input to state.
        w_h: from state to state.

    Returns:
        The gradients for x, h0, w_x, w_h and the bias b, each of its tensor's shape.

    """
    ### BEGIN SOLUTION
    grad_x, grad_w_x, grad_w_h = torch.zeros_like(x), torch.zeros_like(w_x), torch.zeros_like(w_h)
    grad_b = torch.zeros_like(w_h[0])  # (d,)
    from_later = torch.zeros_like(h0)  # (B, d), what the steps after this one send back
    for t in reversed(range(x.shape[1])):
        before = h[:, t - 1] if t > 0 else h0  # (B, d)
        delta = (grad_h[:, t] + from_later) * (1 - h[:, t] ** 2)  # (B, d), at the sum inside tanh
        grad_x[:, t] = delta @ w_x.T  # (B, d_in)
        grad_w_x += x[:, t].T @ delta  # (d_in, d)
        grad_w_h += before.T @ delta  # (d, d)
        grad_b += delta.sum(dim=0)  # (d,)
        from_later = delta @ w_h.T  # (B, d)
    return grad_x, from_later, grad_w_x, grad_w_h, grad_b
    ### END SOLUTION


def clip_gradients(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Shorten gradients that are together too long, and keep their direction.

    Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks",
    algorithm 1. As in PyTorch's `clip_grad_norm_`, 1e-6 is added to the norm before dividing by it.

    Args:
        gradients: the gradients of all parameters, of any shapes; at least one.
        max_norm: how long all of them together, as one long vector, may be.

    Returns:
        New tensors, the gradients times max_norm / (norm + 1e-6), or unchanged where that is more than 1;
        and the norm before clipping, a tensor without axes.

    """
    ### BEGIN SOLUTION
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()  # ()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1)  # ()
    return [gradient * factor for gradient in gradients], norm
    ### END SOLUTION


# --- Gates --------------------------------------------------------------------------------------


def lstm_step(
    x: Float[Tensor, "batch d_in"],
    h: Float[Tensor, "batch d_hidden"],
    c: Float[Tensor, "batch d_hidden"],
    w_x: Float[Tensor, "d_in four_d_hidden"],
    w_h: Float[Tensor, "d_hidden four_d_hidden"],
    b: Float[Tensor, "four_d_hidden"],
) -> tuple[Float[Tensor, "batch d_hidden"], Float[Tensor, "batch d_hidden"]]:
    """Take one step of a long short-term memory.

    Hochreiter and Schmidhuber 1997; the forget gate is Gers, Schmidhuber and Cummins 2000. The columns
    of the weights stand in the order of `nn.LSTM`: input gate, forget gate, candidate, output gate.

    Args:
        x: what is read at this step.
        h: the output of the step before.
        c: the memory cells before this step.
        w_x: from the input to the three gates and the candidate, d_hidden columns each.
        w_h: from the output before to the same.
        b: their biases.

    Returns:
        The output and the memory cells after the step.

    """
    ### BEGIN SOLUTION
    i, f, g, o = (x @ w_x + h @ w_h + b).chunk(4, dim=-1)  # four times (B, d)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()  # (B, d)
    return o.sigmoid() * c.tanh(), c  # (B, d), (B, d)
    ### END SOLUTION


class LSTM(nn.Module):
    """Read a sequence with `lstm_step`, the same weights at every step.

    Args:
        d_in: the width of what is read at each step.
        d_hidden: the width of the output and of the memory.
        forget_bias: the bias of the forget gates at the start; the larger, the longer the memory before
            any training (Gers, Schmidhuber and Cummins 2000; Jozefowicz, Zaremba and Sutskever 2015).

    """

    def __init__(self, d_in: int, d_hidden: int, forget_bias: float = 1.0) -> None:
        super().__init__()
        bound = d_hidden**-0.5
        self.w_x = nn.Parameter(torch.empty(d_in, 4 * d_hidden).uniform_(-bound, bound))
        self.w_h = nn.Parameter(torch.empty(d_hidden, 4 * d_hidden).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(4 * d_hidden))
        with torch.no_grad():
            self.b[d_hidden : 2 * d_hidden] = forget_bias

    def forward(
        self,
        x: Float[Tensor, "batch n d_in"],
        state: tuple[Float[Tensor, "batch d_hidden"], Float[Tensor, "batch d_hidden"]]
        | None = None,
    ) -> tuple[Float[Tensor, "batch n d_hidden"], tuple[Tensor, Tensor]]:
        """Read a batch of sequences.

        Args:
            x: the sequences, n ≥ 1.
            state: output and memory (h, c) before the first step; zeros if not given.

        Returns:
            The output h of each step, and the last state (h, c).

        """
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.w_h.shape[0])  # (B, d)
            state = (zeros, zeros)
        h, c = state
        outputs = []
        for x_t in x.unbind(dim=1):  # n times (B, d_in)
            h, c = lstm_step(x_t, h, c, self.w_x, self.w_h, self.b)  # (B, d), (B, d)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)  # (B, n, d), two times (B, d)


def gru_step(
    x: Float[Tensor, "batch d_in"],
    h: Float[Tensor, "batch d_hidden"],
    w_x: Float[Tensor, "d_in three_d_hidden"],
    w_h: Float[Tensor, "d_hidden three_d_hidden"],
    b_x: Float[Tensor, "three_d_hidden"],
    b_h: Float[Tensor, "three_d_hidden"],
) -> Float[Tensor, "batch d_hidden"]:
    """Take one step of a gated recurrent unit, as `nn.GRU` does: reset *after* the product with h.

    Cho et al. 2014, section 2.3, reset h before it: (r ⊙ h) U in place of r ⊙ (h U). The columns of the
    weights stand in the order of `nn.GRU`: reset gate, update gate, candidate.

    Args:
        x: what is read at this step.
        h: the state before it.
        w_x: from the input to the two gates and the candidate, d_hidden columns each.
        w_h: from the state to the same.
        b_x: the biases beside w_x.
        b_h: the biases beside w_h; that of the candidate is reset together with h.

    Returns:
        The state after the step.

    """
    x_r, x_z, x_n = (x @ w_x + b_x).chunk(3, dim=-1)  # three times (B, d)
    h_r, h_z, h_n = (h @ w_h + b_h).chunk(3, dim=-1)  # three times (B, d)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()  # (B, d), (B, d)
    n = (x_n + r * h_n).tanh()  # (B, d)
    return (1 - z) * n + z * h  # (B, d)


class GRU(nn.Module):
    """Read a sequence with `gru_step`, the same weights at every step.

    Args:
        d_in: the width of what is read at each step.
        d_hidden: the width of the state.
        update_bias: the bias of the update gates at the start; the larger, the longer the memory before any
            training.

    """

    def __init__(self, d_in: int, d_hidden: int, update_bias: float = 1.0) -> None:
        super().__init__()
        bound = d_hidden**-0.5
        self.w_x = nn.Parameter(torch.empty(d_in, 3 * d_hidden).uniform_(-bound, bound))
        self.w_h = nn.Parameter(torch.empty(d_hidden, 3 * d_hidden).uniform_(-bound, bound))
        self.b_x = nn.Parameter(torch.zeros(3 * d_hidden))
        self.b_h = nn.Parameter(torch.zeros(3 * d_hidden))
        with torch.no_grad():
            self.b_x[d_hidden : 2 * d_hidden] = update_bias

    def forward(
        self,
        x: Float[Tensor, "batch n d_in"],
        state: Float[Tensor, "batch d_hidden"] | None = None,
    ) -> tuple[Float[Tensor, "batch n d_hidden"], Float[Tensor, "batch d_hidden"]]:
        """Read a batch of sequences.

        Args:
            x: the sequences, n ≥ 1.
            state: the state before the first step; zeros if not given.

        Returns:
            The state after each step, and the last one.

        """
        h = x.new_zeros(x.shape[0], self.w_h.shape[0]) if state is None else state  # (B, d)
        outputs = []
        for x_t in x.unbind(dim=1):  # n times (B, d_in)
            h = gru_step(x_t, h, self.w_x, self.w_h, self.b_x, self.b_h)  # (B, d)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h  # (B, n, d), (B, d)


# --- Weights from and to PyTorch ----------------------------------------------------------------


@torch.no_grad()
def copy_from_torch(module: RNN | LSTM | GRU, theirs: nn.RNN | nn.LSTM | nn.GRU) -> None:
    """Copy the weights of PyTorch's module into the course's.

    PyTorch multiplies from the other side (its matrices are transposed) and has two biases everywhere; only
    the GRU needs both.

    Args:
        module: the course's module, which is changed.
        theirs: a module of one layer in one direction, with biases and without projection.

    """
    from_input, from_state, bias_x, bias_h = (each.data for each in theirs.parameters())
    module.w_x.copy_(from_input.T)
    module.w_h.copy_(from_state.T)
    if isinstance(module, GRU):
        module.b_x.copy_(bias_x)
        module.b_h.copy_(bias_h)
    else:
        module.b.copy_(bias_x + bias_h)


def detach_state(state: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    """Return the same numbers without their history, for truncated backpropagation through time."""
    return state.detach() if isinstance(state, Tensor) else (state[0].detach(), state[1].detach())
