"""Print which Keras layers become which kind of layer, and what computes it: ``python -m tests.coverage``.

All of it is computed from the code's own tables: the rows of the Keras reader, ONNX' writers, torch's builders and the
reference's rules. What a row's function makes is read off the names of kinds in it and in the functions it calls.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from lstmconv.formats.keras.reader.kinds import table
from lstmconv.formats.keras.reader.kinds.entry import LayerEntry, NotUnderstoodError
from lstmconv.formats.keras.reader.kinds.functions import FUNCTIONS
from lstmconv.formats.keras.writer.whole.handlers import HANDLERS
from lstmconv.formats.onnx.writer import whole_model
from lstmconv.formats.onnx.writer.kinds import WRITERS
from lstmconv.model import LSTMLayer, RecurrentLayer, Stack, TimeDistributed, kinds
from lstmconv.semantics import graph
from lstmconv.semantics.layers import RULES
from lstmconv.torch import model as torch_model
from lstmconv.torch.kinds import BUILDERS

__all__ = ["functions", "layers", "page", "unknown"]

KINDS = {
    name
    for name, each in vars(kinds).items()
    if inspect.isclass(each) and issubclass(each, kinds.Kind) and each not in (kinds.Kind, kinds.Unknown)
} | {each.__name__ for each in (LSTMLayer, RecurrentLayer, Stack, TimeDistributed)}
READ_ELSEWHERE = {
    "LSTMLayer": ("LSTM", "CuDNNLSTM", "Bidirectional", "RNN(LSTMCell)"),
    "Stack": ("RNN([LSTMCell, ...])",),
    "TimeDistributed": ("TimeDistributed",),
}
"""What no row makes: the reader of LSTM cells and that of nested models do."""


class _Target(NamedTuple):
    """What computes layers: a table by kind, and the function that looks into it and knows the other kinds."""

    name: str
    table: Any
    dispatch: tuple[Callable[..., Any], ...]

    @property
    def computes(self) -> set[str]:
        named = {name for function in self.dispatch for name in _named(function, set(), follow=False)}
        return {each.__name__ for each in self.table} | named


TARGETS = (
    _Target("reference", RULES, (graph.compute,)),
    _Target("ONNX", WRITERS, (whole_model._ModelWriter._call,)),
    _Target("PyTorch", BUILDERS, (torch_model.KerasModel._built, torch_model.KerasModel._build)),
    _Target("Keras", HANDLERS, ()),
)


def _named(function: Any, seen: set[Any], *, follow: bool = True) -> set[str]:
    """Return the kinds that a function names, and those of the reader's functions that it calls."""
    if isinstance(function, functools.partial):
        return _named(function.func, seen, follow=follow)
    if not isinstance(function, FunctionType) or function in seen:
        return set()
    seen.add(function)
    found: set[str] = set()
    for name in _names(function.__code__):
        found |= {name} & KINDS
        called = function.__globals__.get(name)
        if follow and isinstance(called, FunctionType) and called.__module__.startswith("lstmconv.formats.keras"):
            found |= _named(called, seen)
    for cell in function.__closure__ or ():
        held = cell.cell_contents
        found |= _named(held, seen) | ({getattr(held, "__name__", "")} & KINDS)
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def layers() -> list[str]:
    """Return the rows of the table of layers, as Markdown."""
    rows: dict[tuple[str, ...], list[str]] = {}
    limits: dict[tuple[str, ...], set[str]] = {}
    for kind, classes in READ_ELSEWHERE.items():
        rows[kind,] = list(classes)
    for module in table.MODULES:
        for row in importlib.import_module(f"lstmconv.formats.keras.reader.kinds.{module}").ROWS:
            made = tuple(sorted(_named(row.build, set())))
            rows.setdefault(made, []).extend(row.names)
            for option, values in row.only.items():
                shown = " or ".join(f"`{option}={value!r}`" for value in values)
                limits.setdefault(made, set()).add(f"{row.names[0]}: {shown}")
    return [
        f"| {', '.join(dict.fromkeys(classes))} | {', '.join(made)} | "
        f"{' | '.join('yes' if target.computes.issuperset(made) else 'no' for target in TARGETS)} | "
        f"{'; '.join(sorted(limits.get(made, ())))} |"
        for made, classes in rows.items()
    ]


def functions() -> str:
    """Name the functions between layers that are computed."""
    return ", ".join(row.names[0] for row in FUNCTIONS)


def unknown() -> list[str]:
    """Name the layers of the installed Keras 3 that are not computed; cells are parts of an RNN, and no layers here."""
    import keras

    known = {name for names in READ_ELSEWHERE.values() for name in names} | {"InputLayer", "Wrapper"}
    found = {
        each.__name__
        for each in vars(keras.layers).values()
        if inspect.isclass(each) and issubclass(each, keras.layers.Layer) and each is not keras.layers.Layer
    }
    return sorted(name for name in found - known if not name.endswith(("Cell", "Cells")) and _is_unknown(name))


def _is_unknown(name: str) -> bool:
    try:
        table.row_of(LayerEntry(name=name, class_name=name, config={}))
    except NotUnderstoodError:
        return True
    return False


def page() -> str:
    """Return what docs/models.md shows between its markers."""
    heads = " | ".join(target.name for target in TARGETS)
    return "\n".join(
        [
            f"| Keras layers | kind | {heads} | only with |",
            "|---|---|---|---|---|---|",
            *layers(),
            "",
            f"Functions between layers (`x * 2`, `keras.ops`, `tf.math`): {functions()}.",
            "",
            f"Not computed, of Keras 3's own layers: {', '.join(unknown())}.",
        ]
    )


if __name__ == "__main__":
    print(page())  # noqa: T201  # what the command is for
