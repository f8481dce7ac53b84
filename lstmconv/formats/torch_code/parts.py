"""Definitions that are copied into the source that is written.

:mod:`lstmconv.formats.torch_code.copied` reads this text; nothing imports it. A
definition needs nothing but the imports below and the definitions that it names. Lines
are at most 88 characters long, as formatters have them by default.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Return `alpha * x + beta`, cut off below 0 and above 1."""
    return (alpha * x + beta).clamp(0.0, 1.0)


def relu(
    x: Tensor,
    negative_slope: float,
    max_value: float,
    threshold: float,
) -> Tensor:
    """Return Keras' ReLU, whose slope applies to `x - threshold`."""
    below = negative_slope * (x - threshold) if negative_slope else torch.zeros_like(x)
    return torch.where(x > threshold, x, below).clamp(max=max_value)


def softplus(x: Tensor) -> Tensor:
    """Return `log(exp(x) + 1)`, which torch's own cuts off at 20."""
    return torch.logaddexp(x, torch.zeros_like(x))


def sparsemax(x: Tensor) -> Tensor:
    """Return Keras' sparsemax, which adds up the sums of the whole support."""
    ordered = x.sort(dim=-1, descending=True).values
    sums = ordered.cumsum(dim=-1)
    rank = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    support = ordered - (sums - 1) / rank > 0
    total = torch.where(support, sums, torch.zeros_like(sums)).sum(-1, keepdim=True)
    return (x - (total - 1) / support.sum(-1, keepdim=True)).clamp(min=0)


def sparse_plus(x: Tensor) -> Tensor:
    """Return 0 below -1, `x` above 1, and a parabola between."""
    inside = torch.where(x < 1, 0.25 * (x + 1) ** 2, x)
    return torch.where(x <= -1, torch.zeros_like(x), inside)


def squareplus(x: Tensor, b: float) -> Tensor:
    """Return a smooth ReLU."""
    return 0.5 * (x + (x * x + b).sqrt())


def masked_softmax(x: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Return the softmax over the places that count; the others are 0."""
    low = torch.where(mask, x, torch.full_like(x, -1e9))
    return torch.where(mask, low.softmax(dim), torch.zeros_like(x))


def masked_mean(x: Tensor, mask: Tensor, dim: int, keepdim: bool) -> Tensor:
    """Return the mean of the steps that count."""
    total = torch.where(mask, x, torch.zeros_like(x)).sum(dim, keepdim)
    return total / mask.to(x.dtype).sum(dim, keepdim)


def pad_same(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] | None = None,
    value: float = 0.0,
) -> Tensor:
    """Pad as TensorFlow's "same": the larger part of an odd number comes last."""
    amounts: list[int] = []
    for axis in reversed(range(len(kernel))):
        size = x.shape[axis + 2]
        window = (kernel[axis] - 1) * (1 if dilation is None else dilation[axis]) + 1
        last = (-(-size // stride[axis]) - 1) * stride[axis]
        total = max(last + window - size, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)


def average_same(
    pool: Callable[..., Tensor],
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    """Return averages of padded windows; padding does not count."""
    counted = pool(pad_same(torch.ones_like(x[:1, :1]), kernel, stride), kernel, stride)
    return pool(pad_same(x, kernel, stride), kernel, stride) / counted


def unit(x: Tensor, dim: int | tuple[int, ...], eps: float) -> Tensor:
    """Return unit vectors along `dim`."""
    return x * x.square().sum(dim, keepdim=True).clamp(min=eps).rsqrt()


def batch_dot(a: Tensor, b: Tensor, axis_a: int, axis_b: int) -> Tensor:
    """Return the products of two batches, summed over one axis of each."""
    left, right = a.movedim(axis_a, -1), b.movedim(axis_b, 1)
    rows = left.reshape(len(a), -1, left.shape[-1])
    products = rows @ right.reshape(len(b), right.shape[1], -1)
    return products.reshape(len(a), *left.shape[1:-1], *right.shape[2:])


def each_step(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Run a model on every time step; to the model they are one large batch."""
    out = model(x.flatten(0, 1))
    return out.reshape(*x.shape[:2], *out.shape[1:])


def detached(state: Any) -> Any:
    """Return states without their history."""
    if isinstance(state, tuple):
        return tuple(part.detach() for part in state)
    return state.detach()


def numbers(text: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return the numbers of a text."""
    return torch.tensor([float(word) for word in text.split()], dtype=dtype).view(shape)


def per_channel(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalise along the last axis, whatever the others are."""
    out: Tensor = norm(x.flatten(0, -2))
    return out.view(x.shape)


class PReLU(nn.Module):
    """A ReLU whose slopes have the shape of a sample, 1 where they are shared."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` where it is positive, else `weight * x`."""
        return torch.where(x > 0, x, self.weight * x)


class RMSNorm(nn.Module):
    """Divides by the root of the mean square over the last axes."""

    def __init__(self, shape: Sequence[int], eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised and scaled."""
        return root_mean_square(x, self.weight.dim(), self.eps) * self.weight


def root_mean_square(x: Tensor, axes: int, eps: float) -> Tensor:
    """Divide by the root of the mean square over the last axes."""
    last = tuple(range(-axes, 0))
    return x * torch.rsqrt(x.square().mean(last, keepdim=True) + eps)


class Normalization(nn.Module):
    """Subtracts a stored mean and divides by a stored deviation."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Sequence[int], variance: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(mean))
        self.register_buffer("variance", torch.ones(variance))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` normalised."""
        return (x - self.mean) / self.variance.sqrt().clamp(min=1e-7)

    def invert(self, x: Tensor) -> Tensor:
        """Return what was normalised."""
        return self.mean + x * self.variance.sqrt().clamp(min=1e-7)


class Attention(nn.Module):
    """Keras' Attention and AdditiveAttention.

    `score` is "dot", "concat" or "additive".
    """

    scale: nn.Parameter | None
    concat_score_weight: nn.Parameter | None

    def __init__(
        self,
        score: str,
        *,
        scale: Sequence[int] | None = None,
        weight: Sequence[int] | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        for name, shape in (("scale", scale), ("concat_score_weight", weight)):
            made = None if shape is None else nn.Parameter(torch.ones(shape))
            self.register_parameter(name, made)
        self.score = score
        self.causal = causal

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the context and the weights."""
        key = value if key is None else key
        if self.score == "dot":
            scores = query @ key.transpose(-1, -2)
            scores = scores if self.scale is None else scores * self.scale
        else:
            both = query.unsqueeze(-2) + key.unsqueeze(-3)
            scaled = both if self.scale is None else self.scale * both
            if self.score == "additive":
                parts = both.tanh()
                scores = (parts if self.scale is None else self.scale * parts).sum(-1)
            else:
                summed = scaled.tanh().sum(-1)
                weight = self.concat_score_weight
                scores = summed if weight is None else weight * summed
        counted = None if value_mask is None else value_mask.unsqueeze(-2)
        weights = attention_weights(scores, counted, self.causal)
        out = weights @ value
        if query_mask is not None:
            out = torch.where(query_mask.unsqueeze(-1), out, torch.zeros_like(out))
        return out, weights


class MultiHeadAttention(nn.Module):
    """Keras' MultiHeadAttention, with nn.MultiheadAttention's parameters.

    A row whose places are all masked is NaN in nn.MultiheadAttention.
    """

    def __init__(
        self,
        features: Sequence[int],
        rows: Sequence[int],
        heads: int,
        output: int,
        *,
        bias: bool = True,
        joined: bool = True,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if joined:
            self.in_proj_weight = nn.Parameter(torch.zeros(sum(rows), features[0]))
        else:
            self.q_proj_weight = nn.Parameter(torch.zeros(rows[0], features[0]))
            self.k_proj_weight = nn.Parameter(torch.zeros(rows[1], features[1]))
            self.v_proj_weight = nn.Parameter(torch.zeros(rows[2], features[2]))
        self.in_proj_bias = nn.Parameter(torch.zeros(sum(rows))) if bias else None
        self.out_proj = nn.Linear(rows[2], output, bias=bias)
        self.rows, self.heads = list(rows), heads
        self.joined, self.causal = joined, causal

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the output and the weights `(batch, heads, query, value)`."""
        if self.joined:
            matrices = list(torch.split(self.in_proj_weight, self.rows))
        else:
            matrices = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        biases: list[Any] = [None, None, None]
        if self.in_proj_bias is not None:
            biases = list(torch.split(self.in_proj_bias, self.rows))
        given = (query, value if key is None else key, value)
        q, k, v = (
            F.linear(x, *both).view(*x.shape[:-1], self.heads, -1).transpose(-2, -3)
            for x, *both in zip(given, matrices, biases, strict=True)
        )
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        counted = None if query_mask is None else query_mask[:, None, :, None]
        for steps in (value_mask, key_mask):
            seen = None if steps is None else steps[:, None, None]
            counted = both_count(counted, seen)
        if mask is not None and mask.dim() == 3:
            mask = mask.unsqueeze(1)
        counted = both_count(counted, mask)
        weights = attention_weights(scores, counted, self.causal)
        return self.out_proj((weights @ v).transpose(-2, -3).flatten(-2)), weights


def attention_weights(scores: Tensor, counted: Tensor | None, causal: bool) -> Tensor:
    """Return the softmax over the steps that count; where none does, all do."""
    if causal:
        before = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device)
        counted = both_count(counted, before.tril())
    if counted is not None:
        scores = torch.where(counted, scores, torch.full_like(scores, -1e9))
    return scores.softmax(dim=-1)


def both_count(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Join two masks."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def masked(
    rnn: nn.Module,
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


class Steps(Options):
    """A recurrent layer of other activations than torch's: a loop over the steps.

    Parameters, inputs and outputs are those of torch's own module, batch first;
    `activation` and `gates` have a function for each direction.
    """

    letters, blocks = 1, 1

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
            for way in range(len(self.suffixes)):
                states = [state[len(ends)] for state in begun]
                last = torch.zeros_like(states[0])
                end = f"_l{layer}{self.suffixes[way]}"
                projected = self.linear("ih", x, end)
                outputs = list(projected[..., : self.hidden_size].unbind(1))
                for step in reversed(range(x.shape[1])) if way else range(x.shape[1]):
                    new = self.step(projected[:, step], states, end, way)
                    if mask is not None:
                        valid = mask[:, step, None]
                        pairs = zip(new, states, strict=True)
                        last = torch.where(valid, new[0], last)
                        new = [torch.where(valid, *pair) for pair in pairs]
                    else:
                        last = new[0]
                    states = new
                    outputs[step] = last
                out = torch.stack(outputs, dim=1)
                if mask is not None and zero_output:
                    out = torch.where(mask.unsqueeze(-1), out, torch.zeros_like(out))
                halves.append(out)
                ends.append(states)
            x = torch.cat(halves, dim=-1)
        after = tuple(torch.stack(each) for each in zip(*ends, strict=True))
        return x, after if self.letters > 1 else after[0]

    def linear(self, name: str, x: Tensor, end: str) -> Tensor:
        """Return the product with a matrix, with its bias."""
        bias = getattr(self, f"bias_{name}{end}") if self.bias else None
        return F.linear(x, getattr(self, f"weight_{name}{end}"), bias)

    def step(self, x: Tensor, states: list[Tensor], end: str, way: int) -> list[Tensor]:
        """Return the new states, the output first; `x` is what the input adds."""
        raise NotImplementedError


class LSTM(Steps):
    """An nn.LSTM with other activations: a loop over the steps."""

    letters, blocks = 2, 4

    def step(self, x: Tensor, states: list[Tensor], end: str, way: int) -> list[Tensor]:
        """Return h and c."""
        act, gate = self.activation[way], self.gates[way]
        h, c = states
        i, f, g, o = (x + self.linear("hh", h, end)).chunk(4, dim=-1)
        c = gate(f) * c + gate(i) * act(g)
        return [gate(o) * act(c), c]


class GRU(Steps):
    """An nn.GRU with other activations: a loop over the steps."""

    blocks = 3

    def step(self, x: Tensor, states: list[Tensor], end: str, way: int) -> list[Tensor]:
        """Return h."""
        act, gate = self.activation[way], self.gates[way]
        (h,) = states
        r_x, z_x, n_x = x.chunk(3, dim=-1)
        r_h, z_h, n_h = self.linear("hh", h, end).chunk(3, dim=-1)
        r, z = gate(r_x + r_h), gate(z_x + z_h)
        return [z * h + (1 - z) * act(n_x + r * n_h)]


class GRUResetBefore(Steps):
    """A GRU whose reset gate acts before the matrix: Keras' reset_after=False."""

    blocks = 3

    def step(self, x: Tensor, states: list[Tensor], end: str, way: int) -> list[Tensor]:
        """Return h."""
        act, gate = self.activation[way], self.gates[way]
        (h,) = states
        r_x, z_x, n_x = x.chunk(3, dim=-1)
        r_h, z_h, _ = self.linear("hh", h, end).chunk(3, dim=-1)
        r, z = gate(r_x + r_h), gate(z_x + z_h)
        _, _, n_h = self.linear("hh", r * h, end).chunk(3, dim=-1)
        return [z * h + (1 - z) * act(n_x + n_h)]


class RNN(Steps):
    """An nn.RNN with another activation: a loop over the steps."""

    def step(self, x: Tensor, states: list[Tensor], end: str, way: int) -> list[Tensor]:
        """Return h."""
        return [self.activation[way](x + self.linear("hh", states[0], end))]
