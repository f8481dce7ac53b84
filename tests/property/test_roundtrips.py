"""Whatever the bits of a weight are, every target holds them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from safetensors import deserialize

import lstmconv
from lstmconv.formats import MappedFile, open_file
from lstmconv.formats.torch.tensors_by_name import read_tensors
from lstmconv.runtimes import session
from tests.contract.building import bits, make_checkpoint
from tests.property.strategies import DTYPES, layers

SUFFIXES = [".pt", ".safetensors", ".onnx", ".cudnn.safetensors", ".cudnn.bin"]

few = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def rows(half, name):
    """Return what a target's array of four blocks of rows, i f g o, holds."""
    return {"weight_ih": half.kernel.T, "weight_hh": half.recurrent.T, "bias": half.bias}[name]


def same(found, wanted):
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(bits(found), bits(wanted))


def biases(half, both):
    """Return the input and the recurrent bias that the target holds; zeros beside a half that has one."""
    if half.bias is None:
        return (np.zeros(4 * half.hidden, half.kernel.dtype),) * 2 if both else (None, None)
    return half.bias, np.zeros_like(half.bias)


@few
@given(layers())
def test_a_state_dict_holds_every_bit(drawn):
    made, layer = drawn
    both = any(half.bias is not None for half in made)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "m.pt")
        lstmconv.save(make_checkpoint(layer), target)
        state = torch.load(target, weights_only=True)
        again = read_tensors(MappedFile(target)).tensors
        beside = Path(folder, "m.safetensors")
        lstmconv.save(make_checkpoint(layer), beside)
        third = dict(deserialize(beside.read_bytes()))
    assert list(state) == list(again)
    assert sorted(state) == sorted(third)
    for half, end in zip(made, ("_l0", "_l0_reverse"), strict=False):
        wanted = {"weight_ih": rows(half, "weight_ih"), "weight_hh": rows(half, "weight_hh")}
        wanted |= dict(zip(("bias_ih", "bias_hh"), biases(half, both), strict=True))
        for name, array in wanted.items():
            key = f"lstm.{name}{end}"
            assert (array is None) == (key not in state)
            if array is None:
                continue
            width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[array.dtype.itemsize]
            np.testing.assert_array_equal(state[key].view(width).numpy().view(bits(array).dtype), bits(array))
            same(again[key], np.ascontiguousarray(array))
            assert bytes(third[key]["data"]) == np.ascontiguousarray(array).tobytes()
            assert tuple(third[key]["shape"]) == array.shape


@few
@given(layers())
def test_an_onnx_model_holds_every_bit_in_its_own_gate_order(drawn):
    made, layer = drawn
    model = lstmconv.to_onnx(layer)
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    both = any(half.bias is not None for half in made)
    assert ("lstm.B" in stored) == both
    for k, half in enumerate(made):
        h = half.hidden

        def iofc(array, h=h):
            return np.concatenate([array[0:h], array[3 * h :], array[h : 2 * h], array[2 * h : 3 * h]])

        same(stored["lstm.W"][k], iofc(half.kernel.T))
        same(stored["lstm.R"][k], iofc(half.recurrent.T))
        if both:
            same(stored["lstm.B"][k], np.concatenate([iofc(bias) for bias in biases(half, both)]))
    onnx.checker.check_model(model)


@few
@given(layers())
def test_a_weight_space_holds_every_bit(drawn):
    made, layer = drawn
    both = any(half.bias is not None for half in made)
    parts = [rows(half, name).ravel() for half in made for name in ("weight_ih", "weight_hh")]
    parts += [bias for half in made for bias in biases(half, both) if bias is not None]
    same(lstmconv.to_cudnn(layer), np.concatenate(parts))


@few
@given(layers())
def test_to_torch_holds_every_bit(drawn):
    made, layer = drawn
    module = lstmconv.to_torch(layer)
    for half, own in zip(made, (module.forward_layer, module.backward_layer), strict=False):
        assert own.bias == (half.bias is not None)
        for name in ("weight_ih", "weight_hh", *(["bias_ih"] if own.bias else [])):
            wanted = rows(half, name.removesuffix("_ih") if name == "bias_ih" else name)
            width = {2: torch.int16, 4: torch.int32, 8: torch.int64}[wanted.dtype.itemsize]
            found = getattr(own, f"{name}_l0").detach().view(width).numpy()
            np.testing.assert_array_equal(found.view(bits(wanted).dtype), bits(wanted))


@pytest.mark.parametrize("suffix", SUFFIXES)
@few
@given(drawn=layers())
def test_every_target_is_decoded_to_the_sources_bits(suffix, drawn):
    """The proof's own decoders agree with what was drawn, for each format."""
    made, layer = drawn
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"m{suffix}")
        lstmconv.save(make_checkpoint(layer), target)
        decoded = session(open_file(target)).decode(["lstm"])["lstm"]
        found = [[np.array(array) for array in (own.weight_ih, own.weight_hh)] for own in decoded]
    assert len(found) == len(made)
    for half, (weight_ih, weight_hh) in zip(made, found, strict=True):
        h = half.hidden
        for gate in range(4):
            columns = slice(gate * h, (gate + 1) * h)
            same(weight_ih[gate], half.kernel[:, columns].T)
            same(weight_hh[gate], half.recurrent[:, columns].T)


@few
@given(drawn=layers(), dtype=st.sampled_from(sorted(DTYPES)))
def test_another_dtype_is_one_rounding_or_a_refusal(drawn, dtype):
    """What does not fit the narrower dtype is refused, and never becomes infinite."""
    made, layer = drawn
    element = DTYPES[dtype]
    sources = [array for half in made for array in (half.kernel, half.recurrent, half.bias) if array is not None]
    with np.errstate(over="ignore", invalid="ignore"):  # A signalling NaN is invalid in any cast.
        pairs = [(array.astype(np.float64), array.astype(element).astype(np.float64)) for array in sources]
    fits = not any((np.isfinite(before) & ~np.isfinite(after)).any() for before, after in pairs)
    if not fits:
        with pytest.raises(lstmconv.UnsupportedModelError, match="does not fit"):
            lstmconv.to_cudnn(layer, dtype=dtype)
        return
    space = lstmconv.to_cudnn(layer, dtype=dtype)
    with np.errstate(invalid="ignore"):
        first = made[0].kernel.T.astype(element).ravel()
        found = space[: first.size]
        number = ~np.isnan(first.astype(np.float64))
        assert np.isnan(found.astype(np.float64)[~number]).all()
    np.testing.assert_array_equal(bits(found)[number], bits(first)[number])


def test_trap_10_halving_is_exact_but_for_subnormals():
    """Both halves of a normal number sum to it again; the smallest subnormal's do not."""
    normal = np.float32([1.5, -3.0, 1e-30, 7e30])
    half = normal * np.float32(0.5)
    np.testing.assert_array_equal(half + half, normal)
    smallest = np.array([1], np.uint32).view(np.float32)
    assert (smallest * np.float32(0.5) + smallest * np.float32(0.5))[0] != smallest[0]
