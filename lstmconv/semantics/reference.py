"""Compute the outputs of Keras for the whole model of a file, for a model, or for one layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lstmconv.errors import UsageError
from lstmconv.misuse import misfit
from lstmconv.model import Array, Checkpoint, Layer, LSTMLayer, Model, RecurrentLayer, Stack
from lstmconv.model.kinds import Kind
from lstmconv.semantics.graph import compute, run_model
from lstmconv.spelling import speaks_python

__all__ = ["reference"]


@speaks_python
def reference(
    source: Checkpoint | Model | Layer,
    *inputs: npt.ArrayLike,
    initial_state: Sequence[npt.ArrayLike] | None = None,
    mask: npt.ArrayLike | None = None,
) -> Array | list[Array]:
    """Return what Keras returns for the inputs, computed in float64.

    Args:
        source: A checkpoint whose file contains its whole model, that model, or one layer.
        inputs: The model's inputs, in its order; for a recurrent layer one array ``(batch, time, input)``, or
            ``(time, batch, input)`` if it is time_major.
        initial_state: For one recurrent layer: ``[h, c]``, or ``[h, c, h, c]`` (forward, backward) for a Bidirectional
            layer, each ``(batch, hidden)``; zeros by default. A GRU or SimpleRNN has h alone.
        mask: For one layer: ``(batch, time)``, true where a step counts.

    Returns:
        What Keras returns: an array, or a list of arrays if there are several outputs.

    Raises:
        UsageError: A shape is not as above; the file does not contain its model; or a model is given a state or a mask.
        UnsupportedModelError: A layer is unknown, or its activations are.
    """
    if isinstance(source, Checkpoint):
        if source.model is None:
            name = source.provenance.source
            raise UsageError(f"{name} does not contain its whole model; pass one of its layers: checkpoint.layers[0]")
        source = source.model
    if not isinstance(source, Model | LSTMLayer | RecurrentLayer | Kind | Stack):
        raise misfit("reference", source, "a Checkpoint, a model or a layer")
    if isinstance(source, Model):
        if initial_state is not None or mask is not None:
            raise UsageError(f"{source.name}: initial_state and mask are one layer's; a model's are in its graph")
        returned = list(run_model(source, inputs).values())[: len(source.outputs)]
        return returned[0] if len(returned) == 1 else returned
    arrays = [np.asarray(each) for each in inputs]
    if isinstance(source, (LSTMLayer, RecurrentLayer)):
        size = source.forward.input_size
        if len(arrays) != 1 or arrays[0].ndim != 3 or arrays[0].shape[2] != size:
            expected = "(time, batch" if source.time_major else "(batch, time"
            shapes = " and ".join(str(array.shape) for array in arrays) or "not given"
            raise UsageError(f"{source.name}: x is {shapes}, expected {expected}, {size})")
    masks = [] if mask is None else [np.asarray(mask, bool)]
    found, _ = compute(source, arrays, None if initial_state is None else list(map(np.asarray, initial_state)), masks)
    return found[0] if len(found) == 1 else list(found)
