"""Read a model config of any Keras generation: its layers as objects, and the calls of each layer as nodes.

Sources: get_config of Sequential, Model, Functional, Bidirectional, RNN, TimeDistributed, Merge in keras-team/keras
1.2.2 to 2.3.1, tf_keras 2.21 and keras 3.x; serialization_lib.py for ``module``, ``registered_name`` and
``shared_object_id``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lstmconv.formats.keras.names import snake_case
from lstmconv.formats.keras.reader.nodes import Node, Ref, nodes_of
from lstmconv.serialised import package_of

__all__ = ["GIVEN", "RECURRENT", "Entry", "Member", "ModelEntry", "read_entries"]

_MODELS = {"Sequential", "Functional", "Model"}
_MAX_NESTING = 32
GIVEN = ""
"""The layer of a :class:`Ref` to the inputs of a Sequential without an InputLayer."""
_UNTRAINABLE = {*_MODELS, "InputLayer"}
"""The classes, besides operations, whose configs have no ``trainable``."""
RECURRENT = {"LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU", "RNN"}
"""Keras' own recurrent layers, whose calls take states."""


@dataclass(eq=False)
class Entry:
    """One layer or model object; the config may list it in several places.

    Attributes:
        name: The object's own name; empty for a nested Sequential of Keras 1, whose config has no name.
        class_name: The class without its package.
        package: ``my`` for a registered ``my>LSTM``, the module for an unregistered class; ``None`` for Keras' own.
        module: The module that the config states.
        config: The result of the object's ``get_config``.
        trainable: False if the object is frozen.
        shape: The shape with which the object was built, if the config has it (``build_config``).
        model: The layers, if the object is one of Keras' own models.
        parts: The wrapped objects: ``layer`` of a TimeDistributed, ``forward`` and ``backward`` of a Bidirectional,
            the cells of an RNN by their position.
    """

    name: str
    class_name: str
    package: str | None
    module: str
    config: Mapping[str, Any]
    trainable: bool = True
    shape: Any = None
    model: ModelEntry | None = None
    parts: dict[str, Entry] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The class, with the package if it is not Keras' own: ``my>LSTM``."""
        return self.class_name if self.package is None else f"{self.package}>{self.class_name}"

    @property
    def inside(self) -> list[Entry]:
        """The wrapped objects, at any depth."""
        return [owner for part in self.parts.values() for owner in (part, *part.inside)]

    @property
    def is_operation(self) -> bool:
        """Whether this is a Keras 3 function between layers: ``GetItem``, ``Add`` of keras.src.ops.

        A legacy file states no module. There a layer's config has ``trainable``, and an operation's config has not.
        """
        if self.package is not None:
            return False
        if self.module:
            return ".ops." in self.module
        if "trainable" in self.config or self.class_name in _UNTRAINABLE:
            return False
        from lstmconv.formats.keras.reader.kinds.functions import FUNCTIONS

        name = snake_case(self.class_name)
        return any(name in function.names for function in FUNCTIONS)

    def own(self, *names: str) -> bool:
        """Whether this is one of Keras' own classes with one of these names, and no operation."""
        return self.package is None and not self.is_operation and self.class_name in names


@dataclass(eq=False)
class Member:
    """One layer in one model's list: the object, and its calls in this model."""

    name: str
    entry: Entry
    nodes: tuple[Node, ...]


@dataclass(eq=False)
class ModelEntry:
    """The layers of one model.

    Attributes:
        name: The model's name.
        members: The layers in the config's order, which is ``model.layers``.
        inputs: The model's input tensors in order; for a Sequential the inputs of its first layer.
        outputs: The model's output tensors by name.
        first: The number of each layer's first call in histories.
        input_names: Keras' names of the inputs, which can differ from the layers of ``inputs``.
    """

    name: str
    members: list[Member]
    inputs: tuple[Ref, ...]
    outputs: dict[str, Ref]
    first: dict[str, int] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()


def read_entries(config: Mapping[str, Any], groups: Sequence[str] = ()) -> Entry:
    """Read a whole config and return the model.

    Args:
        config: ``{"class_name": ..., "config": ...}``.
        groups: The layers' groups in a legacy file. An unnamed nested Sequential of Keras 1 takes its name from the
            group at the same position.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The config does not have the form of a Keras config.
    """
    return _Reader(groups).entry(config, 0)


class _Reader:
    def __init__(self, groups: Sequence[str]) -> None:
        self.shared: dict[object, Entry] = {}
        self.groups = groups

    def entry(self, config: Mapping[str, Any], depth: int) -> Entry:
        """Read one object; an object with a ``shared_object_id`` is read once and returned again."""
        if depth > _MAX_NESTING:
            raise ValueError(f"models nest deeper than {_MAX_NESTING} levels")
        shared = config.get("shared_object_id")
        key = None if not isinstance(shared, int) else shared
        if key is not None and key in self.shared:
            return self.shared[key]
        package, class_name = package_of(config)
        own = config["config"]
        if not isinstance(own, Mapping):
            own = {"layers": own}
        entry = Entry(
            str(config.get("name") or own.get("name") or ""),
            class_name,
            package,
            str(config.get("module") or ""),
            own,
            own.get("trainable", True) is not False,
            (config.get("build_config") or {}).get("input_shape")
            if isinstance(config.get("build_config"), Mapping)
            else None,
        )
        if key is not None:
            self.shared[key] = entry
        if package is None and not entry.is_operation:
            self.fill(entry, depth + 1)
        return entry

    def fill(self, entry: Entry, depth: int) -> None:
        """Read the layers or wrapped objects of one of Keras' own classes."""
        config = entry.config
        if entry.class_name in _MODELS:
            entry.model = self.model(entry, depth)
        elif entry.class_name == "TimeDistributed":
            entry.parts["layer"] = self.entry(config["layer"], depth)
        elif entry.class_name == "Bidirectional":
            entry.parts["forward"] = self.entry(config["layer"], depth)
            own = config.get("backward_layer")
            entry.parts["backward"] = self.entry(own, depth) if own else replace(entry.parts["forward"])
        elif entry.class_name == "RNN":
            entry.parts.update(self.cells(config["cell"], depth))
        elif entry.class_name == "Merge" and isinstance(config.get("layers"), list):
            entry.parts.update({str(index): self.entry(each, depth) for index, each in enumerate(config["layers"])})

    def cells(self, cell: Any, depth: int) -> Iterator[tuple[str, Entry]]:
        """Yield the cells of an RNN: ``cell`` for one, ``0``, ``1``, ... for a list of them."""
        if isinstance(cell, Mapping) and cell["class_name"] != "StackedRNNCells":
            yield "cell", self.entry(cell, depth)
            return
        for index, each in enumerate(cell if isinstance(cell, list) else cell["config"]["cells"]):
            yield str(index), self.entry(each, depth)

    def model(self, entry: Entry, depth: int) -> ModelEntry:
        """Read a model's layers; the config of a Sequential is a list up to Keras 2.2.2, and a dict later."""
        listed = entry.config.get("layers")
        if listed is not None and not isinstance(listed, list):
            raise TypeError(f"the layers of a model are {listed!r:.40}")
        if listed is None:
            return ModelEntry(entry.name, [], (), {})
        sequential = entry.class_name == "Sequential"
        members: list[Member] = []
        for config in listed:
            inner = self.entry(config, depth)
            name = str(config.get("name") or inner.name or "")
            members.append(Member(name, inner, () if sequential else nodes_of(config.get("inbound_nodes", []))))
        if sequential:
            _name_unnamed(members, self.groups if depth == 1 else ())
            return _chained(entry.name, members)
        names = {member.name for member in members}
        if len(names) < len(members):
            raise ValueError(f"two layers of '{entry.name}' have the same name")
        inputs, outputs = _ends(entry, members)
        by_name = {member.name: member for member in members}
        begins = tuple(_input_layer(ref, by_name) for ref in inputs.values())
        model = ModelEntry(entry.name, members, begins, outputs, input_names=tuple(inputs))
        if any(node.of_keras_3 for member in members for node in member.nodes):
            model.outputs = {name: _counted_from_zero(ref, by_name) for name, ref in outputs.items()}
        else:
            model.first = _first_calls(members, (*inputs.values(), *outputs.values()))
        return model


def _name_unnamed(members: Sequence[Member], groups: Sequence[str]) -> None:
    """Name layers without a name: by the file's groups if all other names match them, else by number."""
    same = len(members) == len(groups) and all(
        member.name in ("", group) for member, group in zip(members, groups, strict=True)
    )
    for index, member in enumerate(members):
        class_name = snake_case(member.entry.class_name)
        member.name = member.name or (groups[index] if same else f"{class_name}_{index + 1}")
        member.entry.name = member.entry.name or member.name


def _chained(name: str, members: list[Member]) -> ModelEntry:
    """Give the layers of a Sequential their calls: each is called once, with the output of the layer before it."""
    if not members:
        return ModelEntry(name, [], (), {})
    unnamed = (
        member.name or f"{snake_case(member.entry.class_name)}_{index}" for index, member in enumerate(members, 1)
    )
    names = _numbered(list(unnamed))
    for index, (member, unique) in enumerate(zip(members, names, strict=True)):
        member.name = unique
        if index:
            member.nodes = (Node((Ref(names[index - 1], 0, 0),), {}),)
    first = members[0]
    inputs: tuple[Ref, ...] = (Ref(names[0], 0, 0),)
    if not first.entry.own("InputLayer"):
        branches = len(first.entry.parts) if first.entry.own("Merge") else 1
        inputs = tuple(Ref(GIVEN, 0, index) for index in range(branches))
        first.nodes = (Node(inputs if branches == 1 else (list(inputs),), {}),)
    return ModelEntry(name, members, inputs, {names[-1]: Ref(names[-1], 0, 0)})


def _numbered(names: Sequence[str]) -> list[str]:
    """Make names unique: ``x``, ``x_1``."""
    taken = set(names)
    counts: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        unique = name
        while counts[unique] or (unique != name and unique in taken):
            counts[name] += 1
            unique = f"{name}_{counts[name] - 1}" if counts[name] > 1 else f"{name}_1"
        counts[unique] += 1
        found.append(unique)
    return found


def _first_calls(members: Sequence[Member], ends: Sequence[Ref]) -> dict[str, int]:
    """Return the number of each layer's first call in histories of Keras 1 and 2.

    A nested model that was built from an Input has one call more than the config lists, and histories count it
    (functional.py get_config, kept_nodes). Every listed call is read by another layer or is an output, so the smallest
    number in use is that of the first call.
    """
    first: dict[str, int] = {}
    for ref in (*ends, *(ref for member in members for node in member.nodes for ref in node.refs)):
        first[ref.layer] = min(ref.node, first.get(ref.layer, ref.node))
    return first


def _counted_from_zero(ref: Ref, members: Mapping[str, Member]) -> Ref:
    """Return a Keras 3 model's output with the call numbers of its layers: output references count one call more.

    keras/src/models/functional.py get_config (kept_nodes) and serialize_node, which leaves out calls of other models.
    """
    member = members.get(ref.layer)
    inner = member is not None and member.entry.class_name in ("Functional", "Model") and ref.node > 0
    return ref._replace(node=ref.node - 1) if inner else ref


def _input_layer(ref: Ref, members: Mapping[str, Member]) -> Ref:
    """Return the InputLayer of an input.

    In Keras 1 a linear activation returns its input tensor itself, which then has the activation's name.
    """
    for _ in range(_MAX_NESTING):
        member = members.get(ref.layer)
        if member is None or not member.entry.own("Activation") or len(member.nodes) != 1:
            break
        ref = member.nodes[0].refs[0]
    return ref


def _ends(entry: Entry, members: Sequence[Member]) -> tuple[dict[str, Ref], dict[str, Ref]]:
    """Return a model's inputs and outputs: as the config states them, else its InputLayers and its last layer."""
    if "input_layers" in entry.config or "output_layers" in entry.config or not members:
        return _refs(entry.config.get("input_layers", [])), _refs(entry.config.get("output_layers", []))
    inputs = {member.name: Ref(member.name, 0, 0) for member in members if member.entry.own("InputLayer")}
    last = members[-1].name
    return inputs, {last: Ref(last, 0, 0)}


def _refs(value: Any) -> dict[str, Ref]:
    """Read ``input_layers`` or ``output_layers``: one history, a list of them, or a dict by name.

    The names are Keras' names: the layer's name, with a number if it occurs twice.
    """
    if isinstance(value, Mapping):
        return _refs([value[key] for key in sorted(value)])  # Keras flattens a dict in this order.
    if isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return {value[0]: Ref(value[0], int(value[1]), int(value[2]))}
    if not isinstance(value, list):
        raise TypeError(f"a model whose inputs or outputs are {value!r:.40}")
    refs = [ref for inner in value for ref in _refs(inner).values()]
    return dict(zip(_numbered([ref.layer for ref in refs]), refs, strict=True))
