"""Whole models of real Keras in ONNX: ONNX Runtime computes what Keras computed, for every golden model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lstmconv.formats import onnx as onnx_format
from lstmconv.formats import open_file
from lstmconv.formats.options import WriteOptions
from lstmconv.runtimes import session
from tests.golden.whole.cases import compared, whole_models
from tests.test_whole_reading import TOLERANCE, model_of

REFUSED = {"in_float64": "no LSTM in float64"}
"""What ONNX Runtime has no kernel for."""
CASES = [pytest.param(path, npz, id=f"{path.parent.name}-{path.name}") for path, npz in whole_models()]
pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_onnx_runtime_computes_what_keras_computed(path, npz, tmp_path):
    model = model_of(path)
    if model.unknown or path.stem in REFUSED:
        reason = str(onnx_format.obstacle_of_model(model, WriteOptions()))
        assert (model.unknown[0].name if model.unknown else REFUSED[path.stem]) in reason
        return
    proto = onnx_format.build_model(model, WriteOptions())
    onnx.checker.check_model(proto, full_check=True)
    file = tmp_path / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    loaded = session(open_file(file)).load_model()
    names = [entry.name for entry in model.inputs]
    assert [entry.name for entry in loaded.inputs][: len(names)] == names
    with np.load(npz) as golden:
        tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
        found = None
        for given, wanted in (("x", "y"), ("x2", "y2")):
            if f"{given}:0" not in golden:
                continue
            feeds = {name: golden[f"{given}:{index}"] for index, name in enumerate(names)}
            for entry in list(proto.graph.input)[len(names) :]:  # Of stateful layers.
                rows, batch, hidden = (size.dim_value for size in entry.type.tensor_type.shape.dim)
                start = np.zeros((rows, batch, hidden))
                feeds[entry.name] = start if found is None else found[entry.name.replace(".initial_", ".")]
            found = loaded.compute(feeds)
            for index, name in compared(npz, loaded.outputs[: len(model.outputs)]):
                want = golden[f"{wanted}:{index}"]
                assert found[name].shape == want.shape, name
                limit = tolerance * max(1.0, np.abs(want).max())
                np.testing.assert_allclose(found[name], want, rtol=0, atol=limit, err_msg=name)
