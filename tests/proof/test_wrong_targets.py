"""What ``verify`` and ``check`` fail: a target that lacks, bounds, fixes or exchanges something of its source."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from onnx import helper, numpy_helper

import lstmconv
from lstmconv.errors import UnreadableFileError
from lstmconv.opening import open_artifact
from lstmconv.proof.verifying import verify_file
from tests.contract.building import RELU, make_checkpoint, make_half, make_layer, write_h5


@pytest.fixture
def chain(tmp_path):
    """Return a source of three layers."""
    halves = {"a": [make_half(3, 5, 1)], "b": [make_half(5, 5, 2)], "c": [make_half(5, 7, 3)]}
    return write_h5(tmp_path / "chain.h5", halves)


@pytest.fixture
def without_b(chain, tmp_path):
    """Return a state dict of nn.LSTM modules a and c that hold the source's numbers."""
    lstmconv.convert(chain, tmp_path / "all.pt", whole=False)
    state = torch.load(tmp_path / "all.pt", weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.startswith("b.")}, tmp_path / "chain.pt")
    (tmp_path / "all.pt").unlink()
    return tmp_path / "chain.pt"


def test_a_layer_that_the_target_lacks_fails(chain, without_b):
    report = lstmconv.verify(chain, without_b)
    assert [(check.layer, check.level) for check in report.failures] == [("b", "structure")]


def test_check_does_not_call_a_twin_without_a_layer_the_same(chain, without_b):
    source, twin = lstmconv.check([chain, without_b])
    assert twin.status == "failed"
    assert "lacks b" in twin.findings[0].message
    assert source.twins == ()


def test_a_part_that_the_user_asked_for_is_no_missing_layer(chain, tmp_path):
    target = tmp_path / "chain.pt"
    lstmconv.convert(chain, target, layer=["a", "c"])
    assert lstmconv.verify(chain, target).passed
    assert [one.status for one in lstmconv.check([chain, target])] == ["passed", "passed"]


def test_a_layer_that_the_source_gained_is_missing_in_an_old_target(chain, tmp_path):
    target = tmp_path / "chain.pt"
    lstmconv.convert(chain, target, whole=False)
    halves = {name: [make_half(*sizes)] for name, sizes in {"a": (3, 5, 1), "b": (5, 5, 2), "c": (5, 7, 3)}.items()}
    write_h5(chain, halves | {"d": [make_half(7, 7, 4)]})
    assert [check.layer for check in lstmconv.verify(chain, target).failures] == ["d"]


def test_a_manifest_with_exchanged_ids_is_refused(chain, tmp_path):
    target = tmp_path / "chain.cudnn.safetensors"
    lstmconv.convert(chain, target, layer=["a"])
    tensors = safetensors.numpy.load_file(target)
    with safetensors.safe_open(target, "np") as file:
        metadata = file.metadata()
    manifest = json.loads(metadata["cudnn"])
    first, second = manifest["a"]["params"][:2]
    first["linLayerID"], second["linLayerID"] = second["linLayerID"], first["linLayerID"]
    safetensors.numpy.save_file(tensors, target, {**metadata, "cudnn": json.dumps(manifest)})
    with pytest.raises(UnreadableFileError, match="linLayerID 1, expected 0"):
        lstmconv.verify(chain, target)


def onnx_of(layer, path, *, states=True):
    """Write a layer alone, and return its model for a test to change."""
    lstmconv.save(make_checkpoint(layer), path, states=states)
    return onnx.load(path)


def failed(layer, path, model):
    onnx.save(model, path)
    return verify_file(make_checkpoint(layer), open_artifact(path)).failures


def before_the_lstm(model, node, name):
    """Put a node between the model's x and the node that reads it."""
    node.input.insert(0, name)
    node.output.append(f"{name}.other")
    for reader in model.graph.node:
        reader.input[:] = [f"{name}.other" if one == name else one for one in reader.input]
    model.graph.node.insert(0, node)


@pytest.mark.parametrize("size", ["batch", "steps"])
def test_a_file_that_fixed_the_batch_or_the_length_of_the_trial_fails(size, tmp_path):
    layer = make_layer(make_half(5, 7, 1))
    model = onnx_of(layer, tmp_path / "m.onnx")
    fixed = np.array({"batch": [3, -1, 5], "steps": [-1, 16, 5]}[size], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(fixed, "fixed"))
    before_the_lstm(model, helper.make_node("Reshape", ["fixed"], []), "lstm.x")
    assert [check.level for check in failed(layer, tmp_path / "m.onnx", model)] == ["outputs"]


def relu_layer():
    return make_layer(make_half(3, 5, 1, activation=RELU))


def test_a_clip_of_an_lstm_node_fails(tmp_path):
    layers = relu_layer(), make_layer(make_half(3, 2, 2), name="other")
    lstmconv.save(make_checkpoint(*layers), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    node = next(node for node in model.graph.node if node.op_type == "LSTM")
    node.attribute.append(helper.make_attribute("clip", 50.0))
    onnx.save(model, tmp_path / "m.onnx")
    found = verify_file(make_checkpoint(*layers), open_artifact(tmp_path / "m.onnx")).failures
    assert found[0].level == "structure"
    assert "clip=50" in found[0].detail


def test_a_bound_that_only_large_inputs_reach_fails(tmp_path):
    layer = relu_layer()
    model = onnx_of(layer, tmp_path / "m.onnx")
    for name, value in (("low", -200.0), ("high", 200.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    before_the_lstm(model, helper.make_node("Clip", ["low", "high"], []), "lstm.x")
    found = failed(layer, tmp_path / "m.onnx", model)
    assert [check.level for check in found] == ["outputs"]
    assert "on inputs of large numbers" in found[0].detail


def test_a_state_that_the_graph_stores_fails_where_the_source_starts_from_zeros(tmp_path):
    """A stored state has a batch of its own; ONNX Runtime refuses any other, which is a failure and no crash."""
    source = write_h5(tmp_path / "source.h5", {"lstm": [make_half(3, 5, 1)]})
    target = tmp_path / "source.onnx"
    lstmconv.convert(source, target, whole=False)
    model = onnx.load(target)
    (node,) = (node for node in model.graph.node if node.op_type == "LSTM")
    node.input.extend([""] * (5 - len(node.input)) + ["h0", "h0"])
    model.graph.initializer.append(numpy_helper.from_array(np.full((1, 3, 5), 0.5, np.float32), "h0"))
    onnx.save(model, target)
    report = lstmconv.verify(source, target)
    (failure,) = report.failures
    assert (failure.layer, failure.level) == ("lstm", "outputs")
    assert "does not run" in failure.detail
