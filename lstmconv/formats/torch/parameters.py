"""PyTorch's named tensors as layers: any state dict's LSTMs, found by their parameters' names.

Source: torch/nn/modules/rnn.py (2.13), RNNBase.__init__ and RNNCellBase: ``weight_ih_l{k}{s}``,
``weight_hh_l{k}{s}``, ``bias_ih_l{k}{s}``, ``bias_hh_l{k}{s}``, ``weight_hr_l{k}{s}`` with projections, s
empty or ``_reverse``; a cell's names have no ``_l{k}``. RNN and GRU use the same names: the rows of
``weight_hh``, H, 3H or 4H for H columns, tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from lstmconv.errors import NoLSTMError, UnsupportedModelError
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.overrides import overruled
from lstmconv.formats.record import Record
from lstmconv.formats.restoring import restore
from lstmconv.formats.safety.limits import refuse_many_layers
from lstmconv.formats.torch.agreement import refuse_disagreement
from lstmconv.formats.torch.allowed_globals import Unread, shown
from lstmconv.formats.torch.inference_weights import inference_weights
from lstmconv.formats.torch.module_facts import compare_sizes, doubt, order_of_axes
from lstmconv.formats.torch.module_layers import IncompleteError, ModuleParameters, layers_of
from lstmconv.formats.torch.opaque import Unbuilt
from lstmconv.formats.torch.pickled_modules import PickledModule
from lstmconv.formats.torch.state_dict import path_of
from lstmconv.formats.torch.state_dict import tensors as written_tensors
from lstmconv.formats.torch.whole import whole_tensors
from lstmconv.formats.torch.whole_reader import read_whole
from lstmconv.listing import listed
from lstmconv.model import Array, Checkpoint, LSTMLayer, Provenance, Skipped

__all__ = ["modules", "read_parameters"]

_PARAMETER = re.compile(
    r"(?P<array>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(_l(?P<layer>[0-9]{1,9}))?(?P<way>_reverse)?"
)
_WRAPPERS = ("module", "_orig_mod")
"""What DataParallel and torch.compile put before every name (torch/nn/parallel, torch/_dynamo/eval_frame.py)."""
_FOREIGN = {
    r"parametrizations\.(weight|bias)_\w+\.original[01]": "weight_norm: its weights are computed; "
    "call remove_parametrizations",
    r"parametrizations\.(weight|bias)_\w+\.": "parametrized: its weights are computed; call remove_parametrizations",
    r"weight_[ih]h(_l\d+)?(_reverse)?_[gv]$": "weight_norm: its weights are computed; call remove_weight_norm",
    r"weight_[ih]h(_l\d+)?(_reverse)?_orig$": "spectral_norm: its weights are computed; call remove_spectral_norm",
    r"_all_weight_values|_packed_weight|_packed_params": "quantised: its weights are integers",
}
"""What stands in place of an LSTM's parameters where something computes them."""


def modules(prefixes: Iterable[str]) -> dict[str, str]:
    """Name the modules by the prefixes of their tensors: ``module.encoder.lstm.`` is ``encoder.lstm``.

    Outer keys of a nested checkpoint (``state_dict/``) are left out if the names still differ;
    a module without any prefix is ``lstm``.
    """
    named: dict[str, str] = {}
    for prefix in prefixes:
        inner = prefix.rpartition("/")[2]
        named[prefix] = ".".join(part for part in inner.strip(".").split(".") if part not in _WRAPPERS) or "lstm"
    names = list(named.values())
    return {
        prefix: name if names.count(name) == 1 else (prefix.strip("./") or "lstm") for prefix, name in named.items()
    }


def read_parameters(
    tensors: Mapping[str, Array],
    provenance: Provenance,
    record: Record | None,
    options: ReadOptions,
    known: Mapping[str, PickledModule] = MappingProxyType({}),
    unread: Mapping[str, Unread | Unbuilt] = MappingProxyType({}),
) -> Checkpoint:
    """Read every ``nn.LSTM`` and ``nn.LSTMCell`` of a state dict, or of modules that were saved whole.

    Args:
        tensors: By name; ``(4*hidden, input)``, ``(4*hidden, hidden)`` and ``(4*hidden,)`` each.
        provenance: The file.
        record: What lstmconv recorded in the file, or ``None``.
        options: Activations may be overruled.
        known: What the file says of its modules, where it holds them, by the prefix of their tensors.
        unread: Tensors and objects that are not arrays, by name. An LSTM that holds one is not read.

    Raises:
        UnsupportedModelError: No LSTM in it that converts.
        UnreadableFileError: Arrays are missing, or their shapes do not belong together.
    """
    # In the place of each, so that its module is seen to hold it.
    tensors = {**tensors, **{key: np.empty(0, np.int8) for key, each in unread.items() if _in_a_module(key, each)}}
    if record is not None and record.model is not None:
        described = read_whole(record.model, tensors, provenance)
        refuse_disagreement(whole_tensors(described, WriteOptions()), tensors, provenance.source)
        return overruled(described, options)
    tensors = inference_weights(tensors, provenance.source) if record is None else tensors
    collected, skipped = _collect(tensors, provenance.source, known, unread, nested=record is not None)
    prefixes = [module.prefix for module in collected]
    names = modules(prefixes) if record is None else {prefix: prefix[:-1] for prefix in prefixes}
    found: dict[str, list[LSTMLayer]] = {}
    notes: list[str] = []
    for module in collected:
        name = names[module.prefix]
        try:
            found[name] = layers_of(module, name, tensors.get(f"{module.prefix}_extra_state"), provenance.source)
            if (facts := known.get(module.prefix)) is not None:
                compare_sizes(facts, found[name], f"{provenance.source}: '{name}'")
                notes += filter(None, [order_of_axes(facts, name)])
        except UnsupportedModelError as error:
            whole = not isinstance(error, IncompleteError)
            skipped.append(Skipped(name, "nn.LSTM", str(error), whole))
    if not found:
        reasons = "; ".join(entry.described for entry in skipped)
        reason = f"no LSTM that converts; found {reasons}" if skipped else "no LSTM in it; only LSTM layers convert"
        raise NoLSTMError(f"{reason}", skipped, about=provenance.source)
    prefixed = record is None or record.prefix
    restored = restore(found, record, provenance.source, lambda name: path_of(name) if prefixed else "")
    checkpoint = Checkpoint(
        layers=restored.layers,
        provenance=provenance,
        skipped=tuple(skipped),
        edges=restored.edges,
        joined=restored.joined,
        notes=(*notes, *restored.notes),
    )
    if record is not None:
        written = written_tensors(checkpoint, WriteOptions(prefix=record.prefix))
        refuse_disagreement(written, tensors, provenance.source)
    return overruled(checkpoint, options)


def _in_a_module(key: str, found: Unread | Unbuilt) -> bool:
    """Whether an object may belong to a module; an object without a module in its name is the checkpoint's own."""
    prefix, last = _split(key)
    return isinstance(found, Unread) or prefix.endswith(".") or last == "_extra_state"


def _collect(
    tensors: Mapping[str, Array],
    source: str,
    known: Mapping[str, PickledModule],
    unread: Mapping[str, Unread | Unbuilt],
    *,
    nested: bool,
) -> tuple[list[ModuleParameters], list[Skipped]]:
    """Gather the tensors of each recurrent module by its prefix; tensors of other modules are ignored.

    Args:
        tensors: By name.
        source: The file's name.
        known: What the file says of its modules, by prefix.
        unread: Tensors and objects that are not arrays, by name.
        nested: Whether one LSTM's prefix may begin with another's, as layers are named in files of lstmconv's own.
    """
    collected: dict[str, ModuleParameters] = {}
    foreign: dict[str, str] = {}
    others: list[str] = []
    for key, array in tensors.items():
        prefix, last = _split(key)
        parameter = _PARAMETER.fullmatch(last)
        if parameter is not None:
            layer = parameter["layer"]
            place = (parameter["array"], None if layer is None else int(layer), parameter["way"] or "")
            collected.setdefault(prefix, ModuleParameters(prefix)).arrays[place] = array
            if not nested:
                others.append(prefix)
            continue
        found, reason = _computed(key)
        if found is not None:
            foreign.setdefault(key[: found.start()], reason)
        elif last != "_extra_state":
            others.append(key)
    refuse_many_layers(sum(len(module.arrays) for module in collected.values()) // 4 + len(foreign), source)
    names = modules([*collected, *(prefix for prefix in foreign if prefix not in collected)])
    skipped = [Skipped(names[prefix], "nn.LSTM", reason) for prefix, reason in foreign.items()]
    skipped += _named_as_by_keras(tensors)
    further = _further(collected, others)
    missing = {_split(key)[0]: key for key in unread if _PARAMETER.fullmatch(_split(key)[1])}
    kept: list[ModuleParameters] = []
    for prefix, module in collected.items():
        other = _other_class(module, names[prefix])
        if other is not None:
            skipped.append(other)
        elif prefix in further:
            skipped.append(Skipped(names[prefix], "unknown", _more_than_an_lstm(further[prefix])))
        elif prefix in missing:
            each = unread[missing[prefix]]
            what = each.reason if isinstance(each, Unread) else f"of the class {shown(each.name)}"
            skipped.append(Skipped(names[prefix], "nn.LSTM", f"its {_split(missing[prefix])[1]} is {what}"))
        elif prefix in foreign:
            continue
        elif prefix in known and (why := doubt(known[prefix])) is not None:
            skipped.append(Skipped(names[prefix], known[prefix].class_name, why))
        else:
            kept.append(module)
    return kept, skipped


def _named_as_by_keras(tensors: Mapping[str, Array]) -> Iterator[Skipped]:
    """Yield the modules whose arrays are called as in Keras: a state dict does not state the order of their gates.

    haste's LSTM has i g f o, and a zoneout that acts at inference too (haste_pytorch/lstm.py); ports of Keras i f g o.
    """
    for key, array in tensors.items():
        prefix, last = _split(key)
        if last == "recurrent_kernel" and f"{prefix}kernel" in tensors and prefix:
            yield Skipped(
                modules([prefix])[prefix],
                "unknown",
                "its arrays are called kernel and recurrent_kernel, as by haste's LSTM (gates i g f o, maybe zoneout) "
                "and by ports of Keras (i f g o), and the file does not say which; save an nn.LSTM of these weights",
                is_lstm=array.ndim == 2 and array.shape[1] == 4 * array.shape[0],
            )


def _computed(key: str) -> tuple[re.Match[str] | None, str]:
    """Return where in a tensor's name it says that something computes an LSTM's parameters, and what does."""
    for pattern, reason in _FOREIGN.items():
        found = re.search(pattern, key)
        if found is not None:
            return found, reason
    return None, ""


def _split(key: str) -> tuple[str, str]:
    """Split a tensor's name into its module's prefix and its name in the module."""
    start = max(key.rfind("."), key.rfind("/")) + 1
    return key[:start], key[start:]


def _further(collected: Mapping[str, ModuleParameters], others: Iterable[str]) -> Mapping[str, list[str]]:
    """Return what stands in each module, or in modules inside it, beside an LSTM's parameters."""
    further: dict[str, list[str]] = {}
    for key in dict.fromkeys(others):
        for prefix in _enclosing(key):
            if prefix in collected and prefix != key:
                further.setdefault(prefix, []).append(key.removeprefix(prefix))
    return further


def _enclosing(key: str) -> Iterator[str]:
    """Yield the prefixes of the modules around a tensor, up to the dictionary that holds it."""
    start = key.rfind("/") + 1
    yield key[:start]
    for dot in re.finditer(r"\.", key[start:]):
        yield key[: start + dot.end()]


def _more_than_an_lstm(found: Sequence[str]) -> str:
    return (
        f"it holds {listed(found, 3)} beside an LSTM's parameters, so it computes something else; only a plain nn.LSTM "
        "converts"
    )


def _other_class(module: ModuleParameters, name: str) -> Skipped | None:
    """Return a module that is no plain LSTM, and why it does not convert."""
    if any(array == "weight_hr" for array, _, _ in module.arrays):
        return Skipped(name, "nn.LSTM", "proj_size: Keras, ONNX and cuDNN without projections cannot hold it")
    recurrent = next((array for (name, _, _), array in module.arrays.items() if name == "weight_hh"), None)
    if recurrent is None or recurrent.ndim != 2 or not recurrent.shape[1]:
        return None
    blocks = recurrent.shape[0] / recurrent.shape[1]
    known = {3: "nn.GRU", 1: "nn.RNN"}
    return Skipped(name, known[int(blocks)], "only LSTM layers convert", is_lstm=False) if blocks in known else None
