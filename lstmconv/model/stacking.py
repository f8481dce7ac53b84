"""Join layers that feed each other directly into stacks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from lstmconv.errors import UnsupportedModelError
from lstmconv.model.checkpoint import Checkpoint
from lstmconv.model.layers import LSTMLayer, Stack

__all__ = ["join", "unstacked"]


def unstacked(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with every layer as a stack of one."""
    return replace(checkpoint, joined={})


def join(checkpoint: Checkpoint, obstacle: Callable[[Stack], str | None], *, partial: bool = False) -> Checkpoint:
    """Join every chain of layers into one stack.

    If the layers are named ``x_l0, x_l1, ...``, the stack is named ``x``; otherwise it has the name of its first layer.

    Args:
        checkpoint: Its edges say which layer feeds which.
        obstacle: Returns why the format cannot hold a stack, or ``None``.
        partial: Join the layers that fit; without it, a layer that does not fit is an error.

    Raises:
        UnsupportedModelError: The format cannot hold a single layer, the file does not say which layer feeds
            which, no layer feeds another, or the layers of a chain do not fit together.
    """
    for layer in checkpoint.layers:
        reason = obstacle(Stack(layer.name, (layer,)))
        if reason is not None:
            raise UnsupportedModelError(f"{layer.name}: {reason}")
    if len(checkpoint.layers) == 1:
        return checkpoint
    if checkpoint.edges is None:
        raise UnsupportedModelError(
            f"{checkpoint.provenance.source} does not say which layer feeds which; pass --config model.json"
        )
    if not checkpoint.edges and not partial:
        raise UnsupportedModelError(
            f"{checkpoint.provenance.source}: no LSTM layer feeds another directly, so --stack has nothing to join"
        )
    chains: list[list[LSTMLayer]] = []
    ends: dict[str, list[LSTMLayer]] = {}
    for layer in _downstream(checkpoint):
        below = next((a for a, b in checkpoint.edges if b == layer.name), None)
        chain = ends.pop(below, None) if below is not None else None
        reason = None if below is None else _reason(checkpoint, chain, below, layer, obstacle)
        if reason is not None and not partial:
            raise UnsupportedModelError(
                f"{below} and {layer.name} cannot be stacked: {reason}; pass --stack=partial to join what fits"
            )
        if chain is None or reason is not None:
            chain = []
            chains.append(chain)
        chain.append(layer)
        ends[layer.name] = chain
    joined = {_name(chain): tuple(layer.name for layer in chain) for chain in chains if len(chain) > 1}
    return replace(checkpoint, joined=joined)


def _downstream(checkpoint: Checkpoint) -> list[LSTMLayer]:
    """Return the layers in an order in which each follows the layer that feeds it."""
    below = {b: a for a, b in checkpoint.edges or ()}
    placed: dict[str, LSTMLayer] = {}
    waiting = list(checkpoint.layers)
    while waiting:
        ready = [layer for layer in waiting if below.get(layer.name) not in {other.name for other in waiting}]
        placed |= {layer.name: layer for layer in ready or waiting}
        waiting = [layer for layer in waiting if layer.name not in placed]
    return list(placed.values())


def _reason(
    checkpoint: Checkpoint,
    chain: list[LSTMLayer] | None,
    below: str,
    layer: LSTMLayer,
    obstacle: Callable[[Stack], str | None],
) -> str | None:
    """Return why a layer cannot join the chain that feeds it, or ``None``."""
    if chain is None:
        return f"{below} also feeds another layer"
    if below in checkpoint.branching:
        return f"the model also uses the sequence of {below} elsewhere, and a stack does not return it"
    try:
        return obstacle(Stack(chain[0].name, (*chain, layer)))
    except UnsupportedModelError as error:
        return str(error)


def _name(chain: list[LSTMLayer]) -> str:
    numbered = re.fullmatch(r"(.+)_l0", chain[0].name)
    if numbered and all(layer.name == f"{numbered[1]}_l{k}" for k, layer in enumerate(chain)):
        return numbered[1]
    return chain[0].name
