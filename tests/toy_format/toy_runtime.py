"""Runs a toy: plain NumPy, float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lstmconv.model import Gates, Stack
from lstmconv.runtimes import Decoded, DecodedDirection, Inputs, Loaded, Outputs, Precision, Session, named_outputs


class Toy(Session):
    def seen_by_target(self, stack: Stack) -> Stack:
        return Stack(stack.name, tuple(replace(layer, return_sequences=True) for layer in stack.layers))

    def decode(self, names: Sequence[str], *, frameworks: bool = True) -> Decoded:
        return {name: (self._decoded(name),) for name in names}

    def _decoded(self, name: str) -> DecodedDirection:
        stored = self.artifact.content[name]
        w, r, b = (Gates(*(np.array(stored[key][gate], np.float32) for gate in "ifgo")) for key in "wrb")
        return DecodedDirection(w, r, b, None)

    def load(self, name: str, way: int = 0) -> Loaded:
        w, r, b = (np.asarray(gates, np.float64) for gates in self._decoded(name)[:3])

        def compute(inputs: Inputs) -> Outputs:
            h, c = inputs.states
            steps = []
            for x in inputs.x.swapaxes(0, 1):
                i, f, g, o = x @ w.swapaxes(1, 2) + h @ r.swapaxes(1, 2) + b[:, None]
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                steps.append(h)
            return named_outputs([np.stack(steps, axis=1)], [h], [c])

        return Loaded("toy 1", Precision("float64", "float64"), compute)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


RUNTIME = Toy
