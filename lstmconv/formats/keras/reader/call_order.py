"""The order of a model's calls, and the tensors that each call reads."""

from __future__ import annotations

import heapq
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

from lstmconv.errors import UnreadableFileError
from lstmconv.formats.keras.reader.entries import ModelEntry
from lstmconv.formats.keras.reader.masks import Value
from lstmconv.formats.keras.reader.nodes import Ref
from lstmconv.listing import listed
from lstmconv.model import Tensor

__all__ = ["call_order", "resolved", "value_of", "without_masks"]


def call_order(model: ModelEntry, given: Mapping[tuple[str, int], object]) -> Iterator[tuple[str, int]]:
    """Yield each call after the calls whose outputs it reads, otherwise in the config's order.

    Raises:
        UnreadableFileError: A call reads the output of a missing call, or calls form a circle.
    """
    calls = [(member.name, index) for member in model.members for index in range(len(member.nodes))]
    position = {call: index for index, call in enumerate(calls)}
    nodes = [node for member in model.members for node in member.nodes]
    waiting: list[int] = []
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        sources = {(ref.layer, ref.node - model.first.get(ref.layer, 0)) for ref in node.refs} - given.keys()
        missing = next((source for source in sources if source not in position), None)
        if missing is not None:
            raise UnreadableFileError(
                f"'{calls[index][0]}' reads call {missing[1]} of '{missing[0]}', which is not there",
                about="the model config",
            )
        waiting.append(len(sources))
        for source in sources:
            readers.setdefault(position[source], []).append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        index = heapq.heappop(ready)
        done += 1
        yield calls[index]
        for reader in readers.get(index, ()):
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if done < len(calls):
        circle = [calls[index][0] for index, count in enumerate(waiting) if count]
        raise UnreadableFileError(f"layers feed each other in a circle: {listed(circle)}", about="the model config")


def value_of(ref: Ref, values: Mapping[tuple[str, int], list[Value]], model: ModelEntry) -> Value:
    """Return the tensor for a reference in the config.

    Raises:
        UnreadableFileError: No call computes this tensor.
    """
    outputs = values.get((ref.layer, ref.node - model.first.get(ref.layer, 0)))
    if outputs is None:
        raise UnreadableFileError(f"'{ref.layer}' is read, and nothing computes it", about="the model config")
    if 0 <= ref.tensor < len(outputs):
        return outputs[ref.tensor]
    last = outputs[-1]
    if last.shape is None and 0 <= ref.tensor < 1000:  # An unknown layer may return more tensors.
        return Value(Tensor(last.tensor.source, ref.tensor), None)
    raise UnreadableFileError(
        f"'{ref.layer}' returns {len(outputs)} tensors, and number {ref.tensor} is read", about="the model config"
    )


def without_masks(
    values: dict[tuple[str, int], list[Value]], taken: frozenset[Ref]
) -> Mapping[tuple[str, int], list[Value]]:
    """Return the values, without masks for the tensors in ``taken``."""
    if not taken:
        return values
    seen: ChainMap[tuple[str, int], list[Value]] = ChainMap({}, values)
    for ref in taken:
        outputs = seen.get((ref.layer, ref.node), [])
        kept = [value._replace(mask=None) if index == ref.tensor else value for index, value in enumerate(outputs)]
        seen[ref.layer, ref.node] = kept
    return seen


def resolved(value: Any, values: Mapping[tuple[str, int], list[Value]], model: ModelEntry) -> Any:
    """Replace every :class:`Ref` by its value, at any depth."""
    if isinstance(value, Ref):
        return value_of(value, values, model)
    if isinstance(value, Value):
        return value
    if isinstance(value, Mapping):
        return {key: resolved(inner, values, model) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inner, values, model) for inner in value]
    return value
