"""What Python's functions make of a checkpoint that tells its whole model; real Keras computed what is expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import lstmconv
from lstmconv.errors import UnsupportedModelError, UsageError
from tests.contract.building import make_checkpoint, make_half, make_layer

GOLDEN = Path("tests/golden/whole/tf-keras-2.21.0")
TOLERANCE = 1e-5
"""Float32 in Keras, and in ONNX Runtime."""


def recorded(name):
    with np.load(GOLDEN / f"{name}.npz") as golden:
        return [golden[key] for key in golden if key.startswith("x:")], [
            golden[key] for key in golden if key.startswith("y:")
        ]


def run(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {
        entry.name: each.astype("int64" if entry.type == "tensor(int64)" else "float32")
        for entry, each in zip(session.get_inputs(), inputs, strict=True)
    }
    return session.run(None, feeds)


@pytest.mark.parametrize("name", ["forecaster", "encoder_decoder"])
def test_a_checkpoint_is_its_whole_model_in_onnx_and_in_the_reference(name):
    inputs, expected = recorded(name)
    checkpoint = lstmconv.load(GOLDEN / f"{name}.h5")
    returned = lstmconv.reference(checkpoint, *inputs)
    several = returned if len(expected) > 1 else [returned]
    for found in (several, *(run(lstmconv.to_onnx(source), inputs) for source in (checkpoint, checkpoint.model))):
        for one, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, wanted, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_lstm_layers_alone_are_asked_for_by_name():
    checkpoint = lstmconv.load("sample_weights/airline_passengers.h5")
    for options in ({"whole": False}, {"lengths": True}):
        assert lstmconv.to_onnx(checkpoint, **options).graph.input[0].name == "lstm.x"
    with pytest.raises(UsageError, match="lengths are for LSTM layers alone"):
        lstmconv.to_onnx(checkpoint, whole=True, lengths=True)


def test_a_checkpoint_without_a_model_gives_its_layers():
    checkpoint = make_checkpoint(make_layer(make_half(3, 5, 1)))
    assert [entry.name for entry in lstmconv.to_onnx(checkpoint).graph.input] == ["lstm.x"]
    with pytest.raises(UnsupportedModelError, match="does not contain its model"):
        lstmconv.to_onnx(checkpoint, whole=True)
    with pytest.raises(UsageError, match="does not contain its whole model"):
        lstmconv.reference(checkpoint, np.zeros((1, 2, 3)))


def test_a_model_that_onnx_cannot_hold_is_named_with_the_way_out():
    checkpoint = lstmconv.load("sample_weights/airline_passengers.h5")
    model = checkpoint.model
    calls = tuple(
        replace(call, layer=lstmconv.model.kinds.Unknown("odd", "Odd", "a custom class", {}))
        if call.name == "next_month"
        else call
        for call in model.calls
    )
    odd = replace(checkpoint, model=replace(model, calls=calls))
    with pytest.raises(UnsupportedModelError, match=r"odd: Odd is not known.*; pass whole=False for the LSTM layers"):
        lstmconv.to_onnx(odd)
    assert lstmconv.to_onnx(odd, whole=False).graph.node


def test_a_decoder_is_stepped_through_by_its_submodules():
    """As docs/models.md says: the encoder's final state goes in first, then what each step returned."""
    (source, target), (expected, _) = recorded("encoder_decoder")
    model = lstmconv.to_torch(lstmconv.load(GOLDEN / "encoder_decoder.h5"))
    found = []
    with torch.no_grad():
        _, state = model.encoder(model.embedding(torch.from_numpy(source)))
        for step in range(target.shape[1]):
            y, state = model.decoder(torch.from_numpy(target[:, step : step + 1]), state)
            found.append(torch.softmax(model.dense(y), dim=-1))
    np.testing.assert_allclose(torch.cat(found, dim=1), expected, rtol=TOLERANCE, atol=TOLERANCE)
