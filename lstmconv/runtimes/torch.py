"""Run a written ``.pt`` in PyTorch: loaded strictly into ``nn.LSTM``, or into lstmconv.torch.LSTM."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from lstmconv._optional import require
from lstmconv.errors import MissingDependencyError
from lstmconv.formats import MappedFile
from lstmconv.formats.torch.parameters import modules
from lstmconv.model import Array, Layer, LSTMLayer, Stack, float_type
from lstmconv.runtimes import (
    Decoded,
    DecodedDirection,
    DecodedLayer,
    Inputs,
    Loaded,
    LoadedModel,
    Outputs,
    Precision,
    Session,
    named_outputs,
)
from lstmconv.runtimes.torch_model import blocks, decode_model, load_model

__all__ = ["RUNTIME", "StateDict"]


class StateDict(Session):
    """A state dict in a ``.pt`` file; the content of its artifact is the tensors as lstmconv reads them."""

    bytes_a_weight = 4
    """A large module makes no copies of its mapped parameters; this counts the pages of the map."""

    @property
    def weights(self) -> MappedFile:
        """The state dict's file."""
        return self.artifact.file

    @property
    def read(self) -> Mapping[str, Array]:
        """The state dict as lstmconv reads it."""
        return cast("Mapping[str, Array]", self.artifact.content)

    @cached_property
    def _tensors(self) -> Mapping[str, Any]:
        return self.loaded_tensors()

    def loaded_tensors(self) -> Mapping[str, Any]:
        """Load the tensors with the format's own library; those of nested dicts and lists by their outer keys."""
        torch = require("torch", "Running a state dict")
        mapped = zipfile.is_zipfile(self.weights.stream())  # Before PyTorch 1.6 a file is read whole.
        return dict(_flat(torch.load(self.weights.path, weights_only=True, map_location="cpu", mmap=mapped)))

    @cached_property
    def _names(self) -> dict[str, str]:
        """The prefix of the tensors' names, by the stack."""
        if self.record is not None:
            return {name: name.replace("/", ".") + "." if self.record.prefix else "" for name in self.record.modules}
        found = dict.fromkeys(key[: first.start()] for key in self.read if (first := _FIRST.search(key)))
        return {module: prefix for prefix, module in modules(found).items()}

    def seen_by_target(self, stack: Stack) -> Stack:
        """Return the Keras layers whose outputs ``nn.LSTM`` returns: whole sequences, both halves side by side."""

        def seen(layer: LSTMLayer) -> LSTMLayer:
            merge_mode = "concat" if layer.merge_mode == "none" else layer.merge_mode
            return replace(layer, return_sequences=True, time_major=False, merge_mode=merge_mode)

        return Stack(stack.name, tuple(map(seen, stack.layers)))

    def arrays(self, *, frameworks: bool = True) -> Mapping[str, Array]:
        """Return all tensors by name, as PyTorch loads them where it is installed and wanted."""
        if frameworks:
            with suppress(MissingDependencyError):  # Then our own reader's tensors are compared, and nothing is run.
                return {key: _numpy(tensor) for key, tensor in self._tensors.items() if hasattr(tensor, "numpy")}
        return self.read

    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        """Return the named stacks' weights as PyTorch loads them, or as a reader does that calls nothing."""
        state = self.arrays(frameworks=frameworks)
        decoded: dict[str, tuple[DecodedDirection, ...]] = {}
        for name in names:
            prefix = self._names[name]
            decoded[name] = tuple(
                DecodedDirection(
                    blocks(state[f"{prefix}weight_ih{suffix}"]),
                    blocks(state[f"{prefix}weight_hh{suffix}"]),
                    *(
                        blocks(state[key]) if (key := f"{prefix}{bias}{suffix}") in state else None
                        for bias in ("bias_ih", "bias_hh")
                    ),
                )
                for suffix in _suffixes(prefix, state)
            )
        return decoded

    def decode_model(self, layers: Sequence[Layer], *, frameworks: bool = True) -> Mapping[str, DecodedLayer]:
        """Return every layer's arrays as PyTorch loads them, or as a reader does that calls nothing."""
        described = None if self.record is None else self.record.model
        return decode_model(self.arrays(frameworks=frameworks), described, layers)

    def load_model(self) -> LoadedModel:
        """Build the module of the whole file."""
        return load_model(self.artifact)

    def load(self, name: str, way: int = 0) -> Loaded:
        """Load one stack strictly; half precisions are widened first, which is exact."""
        prefix = self._names[name]
        state = {key[len(prefix) :]: value for key, value in self._tensors.items() if key.startswith(prefix)}
        return _load_module({key: value for key, value in state.items() if re.fullmatch(_OWN, key)})


def _flat(found: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in found.items() if isinstance(found, Mapping) else enumerate(found):
        if isinstance(value, Mapping | list | tuple):
            yield from _flat(value, f"{above}{key}/")
        else:
            yield f"{above}{key}", value


def _numpy(tensor: Any) -> Array:
    """Return a tensor's bits as a NumPy array; NumPy's bfloat16 is ml_dtypes'."""
    torch = require("torch", "Running a state dict")
    if tensor.dtype == torch.bfloat16:
        return np.asarray(tensor.view(torch.int16).numpy().view(float_type("bfloat16")))
    return np.asarray(tensor.numpy())


def _suffixes(prefix: str, state: Mapping[str, Any]) -> list[str]:
    """List the parameters' endings, layer by layer, forward first; an ``nn.LSTMCell`` has none."""
    if f"{prefix}weight_ih" in state:
        return [""]
    found: list[str] = []
    while f"{prefix}weight_ih_l{len(found)}" in state:
        found.append(f"_l{len(found)}")
    return [ending + way for ending in found for way in ("", "_reverse") if f"{prefix}weight_ih{ending}{way}" in state]


def _load_module(state: dict[str, Any]) -> Loaded:
    """Load one module's parameters strictly, by their names in the module."""
    torch = require("torch", "Running a state dict")
    if "weight_ih" in state:  # An nn.LSTMCell is one step of a single layer.
        state = {f"{key}_l0": value for key, value in state.items()}
    suffixes = _suffixes("", state)
    rows, columns = state["weight_ih_l0"].shape
    options: dict[str, Any] = {
        "num_layers": sum(not suffix.endswith("_reverse") for suffix in suffixes),
        "bias": "bias_ih_l0" in state,
        "batch_first": True,
        "bidirectional": "weight_ih_l0_reverse" in state,
    }
    if "_extra_state" in state:
        from lstmconv.torch import LSTM

        kind = LSTM
    else:
        kind = torch.nn.LSTM
    wide = torch.float64 if state["weight_ih_l0"].dtype == torch.float64 else torch.float32
    with torch.device("meta"):  # Its own weights would be drawn at random, which takes longer than loading these.
        module = kind(columns, rows // 4, **options)
    state = {key: tensor if key == "_extra_state" else tensor.to(wide) for key, tensor in state.items()}
    module.load_state_dict(state, strict=True, assign=True)
    weights = sum(parameter.numel() for parameter in module.parameters())

    def compute(inputs: Inputs) -> Outputs:
        with torch.no_grad(), _without_packing(weights):
            x = torch.from_numpy(inputs.x).to(wide)
            h = torch.from_numpy(np.stack(inputs.states[0::2])).to(wide)
            c = torch.from_numpy(np.stack(inputs.states[1::2])).to(wide)
            output, (h_n, c_n) = module(x, (h, c))
        return named_outputs([output], h_n, c_n)

    width = str(wide).removeprefix("torch.")
    return Loaded(f"torch {torch.__version__}", Precision(width, width), compute)


_LARGE = 1 << 25
"""From so many weights on (134 MB of float32) oneDNN is left out: it packs a copy of all weights before it runs."""


@contextmanager
def _without_packing(weights: int) -> Iterator[None]:
    """Run a large module by PyTorch's own kernels, which read the parameters where they are mapped."""
    if weights < _LARGE:
        yield
        return
    torch = require("torch", "Running a state dict")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Setting the flags warns about graphics cards of Intel.
        with torch.backends.mkldnn.flags(enabled=False):
            yield


_OWN = r"(weight|bias)_(ih|hh)(_l\d+)?(_reverse)?|_extra_state"
"""Names of one module's tensors: a state dict without prefixes may hold other modules too."""


_FIRST = re.compile(r"weight_ih(_l0)?$")
"""The name of the first layer's input matrix; each module has one."""

RUNTIME = StateDict
