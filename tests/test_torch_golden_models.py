"""Whole models of real Keras in PyTorch: each golden model computes the same, loaded from its .pt alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.options import WriteOptions
from lstmconv.formats.torch import pt
from lstmconv.model import Checkpoint, Provenance
from lstmconv.model.chains import lstm_layers
from lstmconv.torch import load
from tests.golden.whole.cases import compared, whole_models
from tests.test_whole_reading import TOLERANCE, model_of

CASES = [pytest.param(path, npz, id=f"{path.parent.name}-{path.name}") for path, npz in whole_models()]
pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.mark.parametrize(("path", "npz"), CASES)
def test_a_module_loaded_from_the_file_alone_computes_what_keras_computed(path, npz, tmp_path):
    model = model_of(path)
    file = tmp_path / "model.pt"
    checkpoint = Checkpoint(lstm_layers(model), Provenance(path.name, "", "Keras"), model=model)
    pt.write(checkpoint, file, WriteOptions(whole=True))
    if model.unknown:
        with pytest.raises(UnsupportedModelError, match=f"'{model.unknown[0].name}'"):
            load(file)
        return
    module = load(file)
    assert list(module.input_names) == [entry.name for entry in model.inputs]
    with np.load(npz) as golden:
        tolerance = float(golden["tol"]) if "tol" in golden else TOLERANCE
        for given, wanted in (("x", "y_tensorflow" if "y_tensorflow:0" in golden else "y"), ("x2", "y2")):
            if f"{given}:0" not in golden:
                continue
            inputs = [torch.from_numpy(golden[f"{given}:{index}"]) for index in range(len(module.input_names))]
            with torch.no_grad():
                found = module(inputs)  # A stateful layer goes on from the first call in the second.
            outputs = found if isinstance(found, list) else [found]
            assert len(outputs) == len(module.output_names)
            for index, name in compared(npz, module.output_names):
                output = outputs[index]
                want = golden[f"{wanted}:{index}"]
                assert tuple(output.shape) == want.shape, name
                limit = tolerance * max(1.0, np.abs(want).max())
                np.testing.assert_allclose(output.double().numpy(), want, rtol=0, atol=limit, err_msg=name)
