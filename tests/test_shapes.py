"""Shapes that do not fit are refused in one line that names the layer and the sizes; open sizes stay open."""

from __future__ import annotations

import numpy as np
import pytest

from lstmconv import UnsupportedModelError
from lstmconv.model import Call, Input, Model, Tensor, kinds
from lstmconv.model.shapes import infer, output_shapes

MISFITS = {
    "dense: Dense is given (None, 3): features are 3, its weights take 5": (
        kinds.Dense("dense", np.zeros((5, 7))),
        [(None, 3)],
    ),
    "conv: Convolution is given (None, 2, 3): a window of 5 does not fit into 2 places": (
        kinds.Convolution("conv", np.zeros((5, 3, 7))),
        [(None, 2, 3)],
    ),
    "flat: Reshape is given (None, 7): 7 numbers cannot become (2, -1)": (kinds.Reshape("flat", (2, -1)), [(None, 7)]),
    "add: Merge is given (None, 3), (None, 5): sizes 3 and 5 do not broadcast": (
        kinds.Merge("add", "add"),
        [(None, 3), (None, 5)],
    ),
    "cat: Concatenate is given (None, 3, 2), (None, 5, 2): they differ in another axis than 2": (
        kinds.Concatenate("cat"),
        [(None, 3, 2), (None, 5, 2)],
    ),
    "crop: Crop is given (None, 3, 2): its output would be (None, -1, 2)": (
        kinds.Crop("crop", ((0, 0), (2, 2), (0, 0))),
        [(None, 3, 2)],
    ),
}


@pytest.mark.parametrize("text", MISFITS)
def test_what_does_not_fit_is_said_in_one_line(text):
    with pytest.raises(UnsupportedModelError) as error:
        output_shapes(*MISFITS[text])
    assert str(error.value) == text


def test_an_open_length_stays_open():
    kernel = np.zeros((4, 3, 5))
    assert output_shapes(kinds.Convolution("x", kernel), [(None, None, 3)]) == ((None, None, 5),)
    assert output_shapes(kinds.Reshape("x", (-1,)), [(None, None, 3)]) == ((None, None),)
    assert output_shapes(kinds.Concatenate("x", 1), [(None, None, 3), (2, 5, 3)]) == ((2, None, 3),)


def test_nothing_is_said_behind_an_unknown_layer():
    calls = (
        Call("custom", kinds.Unknown("custom", "My", "a class of its own", {}), (Tensor("x"),)),
        Call("after", kinds.Dense("after", np.zeros((3, 5))), (Tensor("custom"),)),
        Call("beside", kinds.Dense("beside", np.zeros((3, 5))), (Tensor("x"),)),
    )
    model = Model("m", (Input("x", (None, 3)),), calls, {"y": Tensor("after")})
    assert infer(model) == {Tensor("x"): (None, 3), Tensor("beside"): (None, 5)}
