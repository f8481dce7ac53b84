"""What a layer computes, in the names of its own format, with its own sizes and activations."""

from __future__ import annotations

from collections.abc import Iterator

from lstmconv.explaining.blocks import ArrayBlocks, FormatLayout
from lstmconv.model import LSTMDirection

__all__ = ["equations"]


def equations(direction: LSTMDirection, own: FormatLayout, arrays: tuple[ArrayBlocks, ...]) -> tuple[str, ...]:
    """Write one step as lines of Python's notation: ``@`` multiplies matrices, ``*`` numbers.

    Args:
        direction: Its activations and sizes.
        own: The layout of the source.
        arrays: Its arrays, as that layout names them.
    """
    rec, act = _names(direction)
    return (
        *_sums(arrays, own, rec, act, direction.hidden_size),
        "c' = f * c + i * g",
        f"h' = o * {act}(c')" if act != "linear" else "h' = o * c'",
        *dict.fromkeys(_definitions(direction, rec, act)),
    )


def _names(direction: LSTMDirection) -> tuple[str, str]:
    """Name both activations; ``rec`` and ``act`` if one name would mean two functions."""
    recurrent, other = direction.recurrent_activation, direction.activation
    alike = recurrent is not None and other is not None and recurrent != other and recurrent.name == other.name
    return (
        "rec" if recurrent is None or alike else recurrent.name,
        "act" if other is None or alike else other.name,
    )


def _sums(arrays: tuple[ArrayBlocks, ...], own: FormatLayout, rec: str, act: str, hidden: int) -> Iterator[str]:
    matrix, recurrent, *biases = arrays
    apart = matrix.axis in ("apart", "flat") or own.row.input_matrix.elements is not None
    functions = {gate: act if gate == "g" else rec for gate in own.row.gates}
    if not apart:
        left = matrix.axis == "columns"
        terms = [
            _product(matrix.name, "x", left=left),
            *(bias.name for bias in biases if bias.role == "input bias"),
            _product(recurrent.name, "h", left=left),
            *(bias.name for bias in biases if bias.role != "input bias"),
        ]
        yield f"z  = {' + '.join(terms)}"
        starts = own.row.recurrent_matrix.ranges(hidden, 0)
        for gate, (start, stop) in starts.items():
            yield f"{gate}  = {functions[gate]}(z[{start}:{stop}])"
        return
    for gate in own.row.gates:
        names = [_of_gate(array, gate) for array in arrays]
        if matrix.axis == "apart":
            terms = [f"x @ {names[0]}", f"h @ {names[1]}", *names[2:]]
        else:
            before = [name for name, array in zip(names, arrays, strict=True) if array.role == "input bias"]
            after = [name for name, array in zip(names, arrays, strict=True) if array.role == "recurrent bias"]
            terms = [f"{names[0]} @ x", *before, f"{names[1]} @ h", *after]
        yield f"{gate}  = {functions[gate]}({' + '.join(terms)})"


def _product(matrix: str, vector: str, *, left: bool) -> str:
    return f"{vector} @ {matrix}" if left else f"{matrix} @ {vector}"


def _of_gate(array: ArrayBlocks, gate: str) -> str:
    """Name one gate's part of an array: ``W_i``, ``bias[0:4]``."""
    block = next(block for block in array.blocks if block.gate == gate)
    if array.axis == "apart":
        return block.array
    if array.axis != "flat" and block.array != array.name:  # A bias that is part of an array.
        return f"{block.array}[{block.start}:{block.stop}]"
    return f"{array.name}_{gate}"


def _definitions(direction: LSTMDirection, rec: str, act: str) -> Iterator[str]:
    """Define what a name alone does not say."""
    for activation, name, option in (
        (direction.recurrent_activation, rec, "--recurrent-activation"),
        (direction.activation, act, "--activation"),
    ):
        if activation is None:
            yield f"{name} is unknown: the file does not state it; pass --config or {option}"
        elif activation.name == "hard_sigmoid":
            slope, offset = activation["alpha"], activation["beta"]
            yield f"{name}(v) = clip({slope:.7g} * v + {offset:.7g}, 0, 1)"
        elif str(activation) != activation.name:
            yield f"{name} is {activation}"
