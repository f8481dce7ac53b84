"""Read the graph of objects in a TensorFlow 2 checkpoint: each object's children, and the tensor of each variable.

Source: tensorflow/core/protobuf/trackable_object_graph.proto. Optimizers, functions and Keras' duplicate lists of
variables are left out, so that an optimizer's variables are never used as weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.reader.tracked import Tracked
from lstmconv.formats.safety.limits import TRACKED_OBJECTS
from lstmconv.formats.tensorflow.reader.bundle import Bundle
from lstmconv.formats.tensorflow.reader.messages import Message

__all__ = ["GRAPH_KEY", "read_objects"]

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""tensorflow/python/trackable/base.py OBJECT_GRAPH_PROTO_KEY."""
_VALUE = "VARIABLE_VALUE"
_LEFT_OUT = frozenset({
    "keras_api", "variables", "trainable_variables", "non_trainable_variables", "regularization_losses", "optimizer",
    "signatures", "loss", "save_counter", "root", "train_function", "test_function", "predict_function",
    "train_tf_function", "__call__", "call_and_return_all_conditional_losses", "call_and_return_conditional_losses",
    "_default_save_signature", "metrics", "keras_metrics", "compiled_metrics",
})  # fmt: skip
"""Names of children that are left out."""
_LONGEST_PATH = 4096


@dataclass
class _Node:
    children: list[tuple[str, int]] = field(default_factory=list)
    full_name: str = ""
    key: str | None = None
    slots: bool = False


def read_objects(content: bytes, bundle: Bundle, name: str) -> Tracked:
    """Return the root of the objects that own weights.

    Args:
        content: A TrackableObjectGraph.
        bundle: The checkpoint with the tensors.
        name: The file's name for errors.

    Raises:
        UnreadableFileError: The graph is damaged, or has more objects than the limit allows.
    """
    nodes = _nodes(content, name)
    if not nodes:
        raise UnreadableFileError("a graph of no objects: damaged", about=name)
    made: dict[int, Tracked] = {}
    children: dict[int, dict[str, Tracked]] = {}

    def make(number: int, path: str) -> Tracked:
        node = nodes[number]
        array = None if node.key is None else bundle.array(node.key)
        children[number] = {}
        made[number] = Tracked(path, children[number], array, node.full_name)
        return made[number]

    root = make(0, "")
    waiting = [0]
    for number in waiting:
        for key, child in nodes[number].children:
            if key in _LEFT_OUT or nodes[child].slots:
                continue
            if child not in made:
                path = f"{made[number].path}/{key}".lstrip("/")
                if len(path) > _LONGEST_PATH:
                    raise UnreadableFileError(f"objects nest without end: '{path[:60]}...': damaged", about=name)
                make(child, path)
                waiting.append(child)
            children[number][key] = made[child]
    return root


def _nodes(content: bytes, name: str) -> list[_Node]:
    nodes: list[_Node] = []
    count = 0
    for message in Message(content, 0, len(content), name).inner(1):
        node = _Node()
        nodes.append(node)
        for number, value in message.fields():
            count += 1
            if number == 3:
                node.slots = True
            elif number == 1 and isinstance(value, Message):
                node.children.append(_reference(value))
            elif number == 2 and isinstance(value, Message):
                _read_attribute(value, node)
        count += 1
        if count > TRACKED_OBJECTS.value:
            raise UnreadableFileError(
                f"more than {TRACKED_OBJECTS.value:,} objects; {TRACKED_OBJECTS.way_out}", about=name
            )
    if any(child >= len(nodes) for node in nodes for _, child in node.children):
        raise UnreadableFileError("an object in it refers to one that is not there: damaged", about=name)
    return nodes


def _reference(message: Message) -> tuple[str, int]:
    """Return the name of a child and the number of its node."""
    child, name = 0, ""
    for number, value in message.fields():
        if number == 1 and isinstance(value, int):
            child = value
        elif number == 2 and isinstance(value, Message):
            name = value.text
    return name, child


def _read_attribute(message: Message, node: _Node) -> None:
    """Store a SerializedTensor's key and name in its object, if it is a variable's value."""
    texts = {
        number: value.text for number, value in message.fields() if isinstance(value, Message) and number in (1, 2, 3)
    }
    if texts.get(1) == _VALUE and texts.get(3):
        node.key, node.full_name = texts[3], texts.get(2, "")
