"""Recurrent layers under any mask, and with other activations than torch's."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def masked(
    rnn: Callable[..., Any],
    x: Tensor,
    mask: Tensor,
    hx: Any = None,
    zero_output: bool = False,
) -> tuple[Tensor, Any]:
    """Run an nn.LSTM, nn.GRU or nn.RNN over the steps that count, as Keras does.

    A masked step leaves the states as they are, and repeats the output before it or
    returns zeros. Each sequence is compacted, packed and run, and its outputs are put
    back: any mask will do.
    """
    if mask.shape != x.shape[:2]:
        expected = f"expected {tuple(x.shape[:2])}"
        raise ValueError(f"the mask is {tuple(mask.shape)}, {expected}")
    counts = mask.sum(dim=1, keepdim=True)
    order = torch.argsort(mask.logical_not().byte(), dim=1, stable=True)
    packed = nn.utils.rnn.pack_padded_sequence(
        x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1])),
        counts.squeeze(1).clamp(min=1).cpu(),  # A packed sequence has a step at least.
        batch_first=True,
        enforce_sorted=False,
    )
    out, after = rnn(packed, hx)
    ends = list(after) if isinstance(after, tuple) else [after]
    begun = [torch.zeros_like(end) for end in ends]
    if hx is not None:
        begun = list(hx) if isinstance(hx, tuple) else [hx]
    # A sequence without any step that counts keeps its states.
    some = counts > 0
    ends = [torch.where(some, *both) for both in zip(ends, begun, strict=True)]
    y = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
    # The place of each step's output among those that count; a backward half repeats
    # the output of the step behind, which it ran before.
    ahead = mask.cumsum(dim=1) - 1
    behind = torch.where(mask, ahead, ahead + 1)
    parts = torch.split(y[0], ends[0].shape[-1], dim=-1)
    halves = []
    for half, place in zip(parts, (ahead, behind), strict=False):
        there = mask if zero_output else (place >= 0) & (place < counts)
        index = place.clamp(0, x.shape[1] - 1).unsqueeze(-1).expand_as(half)
        found = half.gather(1, index)
        halves.append(torch.where(there.unsqueeze(-1), found, torch.zeros_like(found)))
    return torch.cat(halves, dim=-1), tuple(ends) if len(ends) > 1 else ends[0]


class Halves(nn.Module):
    """Two recurrent layers of different sizes that run opposite ways."""

    def __init__(self, forward_layer: nn.Module, backward_layer: nn.Module) -> None:
        super().__init__()
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer


class Options(nn.Module):
    """Tells what torch's own module of these parameters does not compute.

    The options are in the state dict as `_extra_state`, so that no other layer loads
    these weights by mistake.
    """

    def __init__(self, *args: Any, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options

    def get_extra_state(self) -> Tensor:
        """Return the options as the bytes of a JSON text."""
        return torch.tensor(list(json.dumps(self.options).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse the weights of a layer that computes something else."""
        found = json.loads(bytes(state.tolist()))
        if found != self.options:
            raise ValueError(f"weights of a layer of {found}, not of {self.options}")


class LSTMWithOptions(Options, nn.LSTM):
    """An nn.LSTM that runs backwards, or whose halves are not concatenated."""


class GRUWithOptions(Options, nn.GRU):
    """An nn.GRU that runs backwards, or whose halves are not concatenated."""


class RNNWithOptions(Options, nn.RNN):
    """An nn.RNN that runs backwards, or whose halves are not concatenated."""


def lstm_step(
    x: Tensor,
    states: list[Tensor],
    recurrent: Callable[[Tensor], Tensor],
    act: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Return the new h and c; `x` is what the input adds."""
    h, c = states
    i, f, g, o = (x + recurrent(h)).chunk(4, dim=-1)
    c = gate(f) * c + gate(i) * act(g)
    return [gate(o) * act(c), c]


def gru_step(
    x: Tensor,
    states: list[Tensor],
    recurrent: Callable[[Tensor], Tensor],
    act: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Return the new h; the reset gate acts on the product, as in nn.GRU."""
    (h,) = states
    r_x, z_x, n_x = x.chunk(3, dim=-1)
    r_h, z_h, n_h = recurrent(h).chunk(3, dim=-1)
    r, z = gate(r_x + r_h), gate(z_x + z_h)
    return [z * h + (1 - z) * act(n_x + r * n_h)]


def gru_step_reset_before(
    x: Tensor,
    states: list[Tensor],
    recurrent: Callable[[Tensor], Tensor],
    act: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Return the new h; the reset gate acts on h: Keras' reset_after=False."""
    (h,) = states
    r_x, z_x, n_x = x.chunk(3, dim=-1)
    r_h, z_h, _ = recurrent(h).chunk(3, dim=-1)
    r, z = gate(r_x + r_h), gate(z_x + z_h)
    _, _, n_h = recurrent(r * h).chunk(3, dim=-1)
    return [z * h + (1 - z) * act(n_x + n_h)]


def rnn_step(
    x: Tensor,
    states: list[Tensor],
    recurrent: Callable[[Tensor], Tensor],
    act: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Return the new h."""
    return [act(x + recurrent(states[0]))]


def over_time(
    step: Callable[[Tensor, list[Tensor]], list[Tensor]],
    x: Tensor,
    states: list[Tensor],
    mask: Tensor | None,
    zero_output: bool,
    backwards: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run all steps of `x` (batch, time, ...); return the outputs and the last states.

    A masked step leaves the states as they are, and repeats the output before it or
    returns zeros.
    """
    last = torch.zeros_like(states[0])
    outputs = [last] * x.shape[1]
    for k in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        new = step(x[:, k], states)
        if mask is None:
            last, states = new[0], new
        else:
            valid = mask[:, k, None]
            last = torch.where(valid, new[0], last)
            pairs = zip(new, states, strict=True)
            states = [torch.where(valid, *pair) for pair in pairs]
        outputs[k] = last
    out = torch.stack(outputs, dim=1) if outputs else last[:, None][:, :0]
    if mask is not None and zero_output:
        out = torch.where(mask.unsqueeze(-1), out, torch.zeros_like(out))
    return out, states


class Steps(Options):
    """A recurrent layer of other activations than torch's: a loop over the steps.

    Parameters, inputs and outputs are those of torch's own module, batch first;
    `activation` and `gates` have a function for each direction.
    """

    letters, blocks = 1, 1
    step: Callable[..., list[Tensor]]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        activation: Sequence[Callable[[Tensor], Tensor]],
        gates: Sequence[Callable[[Tensor], Tensor]],
        *,
        options: dict[str, Any],
        num_layers: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(options=options)
        self.hidden_size, self.num_layers, self.bias = hidden_size, num_layers, bias
        self.activation, self.gates = activation, gates
        self.suffixes = ["", "_reverse"][: len(activation)]
        rows, columns = self.blocks * hidden_size, len(activation) * hidden_size
        for layer in range(num_layers):
            width = columns if layer else input_size
            for suffix in self.suffixes:
                end = f"_l{layer}{suffix}"
                self.add(f"weight_ih{end}", rows, width)
                self.add(f"weight_hh{end}", rows, hidden_size)
                for name in ("bias_ih", "bias_hh") if bias else ():
                    self.add(name + end, rows)

    def add(self, name: str, *shape: int) -> None:
        """Add a parameter."""
        self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(
        self,
        x: Tensor,
        hx: Any = None,
        mask: Tensor | None = None,
        zero_output: bool = False,
    ) -> tuple[Tensor, Any]:
        """Run all steps; a masked one repeats the last output, or returns zeros."""
        if mask is not None and mask.shape != x.shape[:2]:
            expected = f"expected {tuple(x.shape[:2])}"
            raise ValueError(f"the mask is {tuple(mask.shape)}, {expected}")
        if hx is None:
            rows = self.num_layers * len(self.suffixes)
            begun = [x.new_zeros(rows, len(x), self.hidden_size)] * self.letters
        else:
            begun = list(hx) if isinstance(hx, tuple) else [hx]
        if begun[0].shape[1] != len(x):
            expected = f"states of a batch of {begun[0].shape[1]}"
            raise ValueError(f"a batch of {len(x)}, {expected}")
        ends: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            halves = []
            for way, suffix in enumerate(self.suffixes):
                end = f"_l{layer}{suffix}"
                step = partial(
                    self.step,
                    recurrent=partial(self.linear, "hh", end),
                    act=self.activation[way],
                    gate=self.gates[way],
                )
                states = [state[len(ends)] for state in begun]
                added = self.linear("ih", end, x)
                ran = over_time(step, added, states, mask, zero_output, way == 1)
                halves.append(ran[0])
                ends.append(ran[1])
            x = torch.cat(halves, dim=-1)
        after = tuple(torch.stack(each) for each in zip(*ends, strict=True))
        return x, after if self.letters > 1 else after[0]

    def linear(self, name: str, end: str, x: Tensor) -> Tensor:
        """Return the product with a matrix, with its bias."""
        bias = getattr(self, f"bias_{name}{end}") if self.bias else None
        return F.linear(x, getattr(self, f"weight_{name}{end}"), bias)


class LSTM(Steps):
    """An nn.LSTM with other activations: a loop over the steps."""

    letters, blocks = 2, 4
    step = staticmethod(lstm_step)


class GRU(Steps):
    """An nn.GRU with other activations: a loop over the steps."""

    blocks = 3
    step = staticmethod(gru_step)


class GRUResetBefore(Steps):
    """A GRU whose reset gate acts before the matrix: Keras' reset_after=False."""

    blocks = 3
    step = staticmethod(gru_step_reset_before)


class RNN(Steps):
    """An nn.RNN with another activation: a loop over the steps."""

    step = staticmethod(rnn_step)
