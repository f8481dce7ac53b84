"""The masks that MultiHeadAttention removes from its inputs when it runs, in Keras 3.8 and later.

keras/src/layers/attention/multi_head_attention.py sets ``_keras_mask`` of query, value and key to ``None``, so that a
call that runs later and reads the same tensors sees no mask. Calls run in the order of ``map_graph`` in
keras/src/ops/function.py: by depth, and within one depth in the order in which it finds calls from the model's outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from lstmconv.formats.keras.reader.entries import ModelEntry
from lstmconv.formats.keras.reader.nodes import Node, Ref

__all__ = ["masks_taken"]

_Key: TypeAlias = "tuple[str, int]"
"""The name of a layer and the index of one of its calls."""


def masks_taken(model: ModelEntry) -> Mapping[tuple[str, int], frozenset[Ref]]:
    """Return, for each call, the inputs whose masks an earlier attention has removed."""
    attentions = {member.name for member in model.members if member.entry.own("MultiHeadAttention")}
    if not attentions:
        return {}
    nodes = {(member.name, index): node for member in model.members for index, node in enumerate(member.nodes)}
    taken: set[Ref] = set()
    found: dict[_Key, frozenset[Ref]] = {}
    for key in _running_order(model, nodes):
        found[key] = frozenset(taken.intersection(nodes[key].refs))
        if key[0] in attentions:
            taken.update(nodes[key].refs)
    return found


def _running_order(model: ModelEntry, nodes: Mapping[_Key, Node]) -> Iterator[_Key]:
    depths: dict[_Key, int] = {}
    of_layer: dict[str, int] = {}
    for key in reversed(_found_from(list(map(_key, model.outputs.values())), nodes)):
        depth = max(depths.setdefault(key, 0), of_layer.get(key[0], 0))
        depths[key] = of_layer[key[0]] = depth
        for source in _sources(key, nodes):
            depths[source] = max(depth + 1, depths.get(source, 0))
    by_depth: dict[int, list[_Key]] = {}
    for key, depth in depths.items():
        by_depth.setdefault(depth, []).append(key)
    for depth in sorted(by_depth, reverse=True):
        yield from (key for key in by_depth[depth] if key in nodes)


def _found_from(ends: Sequence[_Key], nodes: Mapping[_Key, Node]) -> list[_Key]:
    """List each call after the calls whose outputs it reads, following arguments in their order."""
    found: dict[_Key, None] = {}
    started: set[_Key] = set()
    waiting = [(end, False) for end in reversed(ends)]
    while waiting:
        key, finished = waiting.pop()
        if finished:
            found.setdefault(key)
        elif key not in started:
            started.add(key)
            waiting.append((key, True))
            waiting += [(source, False) for source in reversed(_sources(key, nodes))]
    return list(found)


def _sources(key: _Key, nodes: Mapping[_Key, Node]) -> list[_Key]:
    return [_key(ref) for ref in nodes[key].refs] if key in nodes else []


def _key(ref: Ref) -> _Key:
    return ref.layer, ref.node
