"""Whole models: wrong conversions are all caught and nearly all named, and right ones are never called wrong.

``LSTMCONV_RANDOM_MODELS=2000`` runs that many random models; by default 50.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from lstmconv.formats import WriteOptions
from lstmconv.formats.onnx import build_model
from lstmconv.model import Call, Input, LSTMLayer, Model, Tensor, kinds
from lstmconv.proof.models import check_model
from lstmconv.proof.models.rounding import in_dtype
from lstmconv.proof.trials import Settings
from lstmconv.runtimes import Precision
from tests.proof.model_mutants import mutants_of
from tests.proof.whole_models import Builder, random_model

FLOAT32 = Precision("float32", "float32")
MODELS = int(os.environ.get("LSTMCONV_RANDOM_MODELS", "50"))
MUTATED = 60
"""So many mutants are run by default; with more random models, as many times more."""
NAMED = 0.95
"""The part of the mutants that must be named rightly, by layer and mistake; all must be caught."""

Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def onnx_run(model: Model) -> Run:
    """Write a model as ONNX in float32 and return what runs it."""
    proto = build_model(model, WriteOptions(dtype="float32"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}
    given = {entry.name: dtypes[entry.type] for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]

    def run(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        feeds = {name: np.asarray(array).astype(given[name]) for name, array in inputs.items()}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


@pytest.mark.parametrize("part", range(5))
def test_random_models_are_never_called_wrong(part):
    for seed in range(part, MODELS, 5):
        model = random_model(seed)
        check = check_model(model, onnx_run(model), FLOAT32, Settings(seed=seed))
        assert check.status == "passed", (seed, check.detail)


def is_named(name: str, words: tuple[str, ...], text: str) -> bool:
    """Whether a text names a mutant rightly, by layer and mistake."""
    return name.split(" in ")[-1] in text and any(word in text for word in words)


def test_wrong_models_are_all_caught_and_named_by_layer_and_mistake():
    wanted = MUTATED * max(1, MODELS // 50)
    # What a model computes alike on any input (a bias before a normalisation) the check must say that it cannot tell.
    missed, unnamed, untold, count = [], [], [], 0
    for seed in range(1000, 1000 + wanted):
        model = random_model(seed)
        mutants = list(mutants_of(model))
        for name, words, wrong in random.Random(seed).sample(mutants, min(len(mutants), 2)):
            check = check_model(model, onnx_run(wrong), FLOAT32, Settings(seed=seed))
            count += 1
            diagnosis = check.diagnosis or ""
            if check.status != "failed":
                untold += [name] if any(is_named(name, words, text) for text in check.evidence.cannot_tell) else []
                missed += [f"{seed}: {name}: {check.detail}"] if untold[-1:] != [name] else []
            elif not is_named(name, words, diagnosis):
                unnamed.append(f"{seed}: {name}: {diagnosis}")
        if count >= wanted:
            break
    assert missed == []
    assert len(untold) <= (1 - NAMED) * count, untold
    assert len(unnamed) <= (1 - NAMED) * count, unnamed


def sequence_model(batch: int | None = None, steps: int | None = None) -> Model:
    """Build a small model: an LSTM that returns sequences, and a Dense layer on each step."""
    build = Builder(0)
    x = build.given((batch, steps, 3))
    return build.model(build.add(build.dense(5, 2), build.add(build.lstm(3, 5), x)))


@pytest.mark.parametrize(("batch", "steps", "fixed"), [(None, None, (3, None)), (None, None, (None, 4))])
def test_a_file_that_fixes_an_open_size_fails(batch, steps, fixed):
    right = sequence_model(batch, steps)
    model = Model(right.name, (right.inputs[0]._replace(shape=(*fixed, 3)),), right.calls, right.outputs)
    check = check_model(right, onnx_run(model), FLOAT32, Settings())
    assert check.status == "failed"
    assert re.match(r"does not run on \(.*\), while it runs on \(3, 4, 3\): [A-Z]\w+: ", check.detail), check.detail


def test_a_model_says_what_was_run():
    check = check_model(sequence_model(), onnx_run(sequence_model()), FLOAT32, Settings(), framework="onnxruntime")
    assert (check.layer, check.level, check.status) == ("model", "model", "passed")
    assert "run on input_1 (3, 4, 3) and (2, 6, 3) · onnxruntime" in check.detail
    assert check.evidence.found <= check.evidence.noise
    assert check.evidence.nearest_noise * 10 <= check.evidence.nearest


def test_a_model_that_the_reference_cannot_compute_fails():
    """A mask of other steps than its sequence's: what was read does not fit together, so no file of it is right."""
    inputs = (Input("x", (2, 7, 3), "float32"), Input("mask", (2, 5), "bool"))
    pooling = kinds.GlobalPooling("pooling", "average")
    call = Call("pooling", pooling, (Tensor("x"),), masks=(Tensor("mask"),))
    model = Model("model", inputs, (call,), {"pooling": Tensor("pooling")})
    check = check_model(model, lambda _: {}, FLOAT32, Settings())
    assert check.status == "failed"
    assert check.detail.startswith("the model cannot be computed as it was read: ")


def test_a_missing_output_fails():
    build = Builder(1)
    tensor = build.add(build.lstm(3, 5), build.given((None, 7, 3)))
    both = build.model(tensor, build.add(build.dense(5, 2), tensor))
    one = Model("model", both.inputs, both.calls, dict(list(both.outputs.items())[:1]))
    check = check_model(both, onnx_run(one), FLOAT32, Settings())
    assert (check.status, check.detail) == ("failed", "the file returns no dense_1")


def test_a_given_tolerance_under_which_mistakes_pass_proves_nothing():
    model = sequence_model()
    check = check_model(model, onnx_run(model), FLOAT32, Settings(atol=10.0))
    assert check.status == "not run"
    assert "proves nothing" in check.detail


def test_the_states_of_a_stateful_layer_are_run_too():
    """Give a stateful layer's states as inputs, and find them dropped by a file that takes and ignores them."""
    build = Builder(2)
    x = build.given((3, 7, 5))
    layer = replace(build.lstm(5, 2), stateful=True)
    model = build.model(build.add(layer, x))
    run = onnx_run(model)
    assert check_model(model, run, FLOAT32, Settings()).status == "passed"

    def forgetful(inputs):
        return run({name: 0 * array if ".initial_" in name else array for name, array in inputs.items()})

    check = check_model(model, forgetful, FLOAT32, Settings())
    assert check.status == "failed"
    assert check.diagnosis == "initial states dropped in lstm_1: pass them on"


def test_a_model_that_no_inputs_fit_is_not_run():
    """Embed ids that are computed, and are in no table."""
    build = Builder(5)
    tokens = build.given((None, 7), "int32")
    far = build.add(kinds.Constant("far", np.array(1000, np.int64)))
    ids = build.add(kinds.Operation("add", "add"), tokens, far)
    model = build.model(build.add(kinds.Embedding("embedding", build.draw(13, 5)), ids))
    check = check_model(model, lambda _: {}, FLOAT32, Settings())
    assert check.status == "not run"
    assert "token ids go from" in check.detail


def test_exchanged_weights_of_two_layers_are_named():
    build = Builder(3)
    x = build.given((None, 5))
    a, b = build.dense(5, 5), build.dense(5, 5)
    model = build.model(build.add(b, build.add(a, x)))
    calls = tuple(
        replace(call, layer=replace(own, kernel=other.kernel, bias=other.bias))
        for call, own, other in zip(model.calls, (a, b), (b, a), strict=True)
    )
    check = check_model(model, onnx_run(replace(model, calls=calls)), FLOAT32, Settings())
    assert check.status == "failed"
    assert check.diagnosis.startswith("weights of dense_1 and dense_2 exchanged")


def test_half_precision_is_allowed_its_own_rounding():
    """Compute float16 weights in float32, and round what comes out: no error of the file."""
    model = sequence_model(steps=7)
    narrow = Precision("float32", "float16")
    run = onnx_run(in_dtype(model, "float16"))

    def stored(inputs):
        return {name: array.astype(np.float16) for name, array in run(inputs).items()}

    assert check_model(model, stored, narrow, Settings()).status == "passed"


def test_a_large_model_is_proven_in_a_few_seconds():
    build = Builder(4)
    x = build.given((None, 16, 64))
    tensor = build.add(LSTMLayer("read", build.direction(64, 512)), x)
    tensor = build.add(LSTMLayer("last", build.direction(512, 128), return_sequences=False), tensor)
    model = build.model(build.add(build.dense(128, 10), tensor))
    start = time.process_time()
    check = check_model(model, onnx_run(model), FLOAT32, Settings())
    assert check.status == "passed"
    assert time.process_time() - start < 20
