"""A stack that a file holds without a model around it, run as a model of one layer: x in, the outputs out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lstmconv.model import Array, Call, Input, Model, Stack, Tensor
from lstmconv.runtimes import Inputs, LoadedModel, Session

__all__ = ["load_alone", "model_of"]


def model_of(stack: Stack) -> Model:
    """Return a model of one input ``x`` and the stack's outputs ``y`` (``y_1`` the second of merge_mode none)."""
    first = stack.first
    shape = (None, None, first.input_size)
    outputs = 2 if stack.last.bidirectional and stack.last.merge_mode == "none" else 1
    named = {f"y_{index}" if index else "y": Tensor(stack.name, index) for index in range(outputs)}
    call = Call(stack.name, stack, (Tensor("x"),))
    return Model(stack.name, (Input("x", shape, str(first.dtype)),), (call,), named)


def load_alone(session: Session, stack: Stack) -> LoadedModel:
    """Load one stack of a file; it starts from zeros.

    Args:
        session: The file in its own framework.
        stack: By its name in the file, and as the file's framework computes it.

    Raises:
        NotRunError: That cannot be done here.
    """
    loaded = session.load(stack.name)
    axis = 1 if stack.first.time_major else 0

    def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
        x = np.asarray(given["x"], np.float64)
        zeros = [np.zeros((x.shape[axis], half.hidden_size)) for half in stack.directions for _ in "hc"]
        lengths = np.full(x.shape[axis], x.shape[1 - axis]) if "lengths" in session.accepts(stack.name) else None
        return loaded.compute(Inputs(x, tuple(zeros), lengths))

    inputs = (Input("x", (None, None, stack.first.input_size), loaded.precision.arithmetic),)
    return LoadedModel(loaded.framework, loaded.precision, inputs, tuple(model_of(stack).outputs), compute)
