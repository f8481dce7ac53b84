"""Every row of the table of layouts against index arithmetic written out: which stored number is which weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from einops import EinopsError

from lstmconv.layouts import (
    CUDNN,
    CUDNN_LSTM_LAYER,
    KERAS,
    KERAS_1,
    LAYOUTS,
    ONNX,
    TORCH,
    Layout,
    Pattern,
    by_name,
)
from lstmconv.layouts.kinds import ARRAYS, rows_of

# Units and features: distinct primes, so that a wrong axis fails; and sizes that shapes cannot tell apart.
SIZES = [(5, 3), (3, 7), (4, 4), (1, 4), (5, 1)]

# Keras, PyTorch and cuDNN store i f g o; Keras 1 i g f o; ONNX i o f g.
PLACE = {"ifgo": {"i": 0, "f": 1, "g": 2, "o": 3}, "igfo": {"i": 0, "g": 1, "f": 2, "o": 3}}
PLACE["iofg"] = {"i": 0, "o": 1, "f": 2, "g": 3}


def numbered(*shape: int) -> np.ndarray:
    """Return an array in which every number says where it lies."""
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


def expected(gate: str, units: int, columns: int, at: Callable[[int, int], int]) -> np.ndarray:
    """Build one gate element by element: ``at(unit, column)`` is the number of the stored element."""
    return np.array([[at(unit, column) for column in range(columns)] for unit in range(units)])


@pytest.mark.parametrize(("units", "features"), SIZES)
@pytest.mark.parametrize("matrix", ["input", "recurrent"])
def test_keras_stores_a_gate_as_columns_in_the_order_i_f_g_o(matrix: str, units: int, features: int):
    inputs = features if matrix == "input" else units
    pattern = KERAS.input_matrix if matrix == "input" else KERAS.recurrent_matrix
    view = pattern.view(numbered(inputs, 4 * units))
    for gate, k in {"i": 0, "f": 1, "g": 2, "o": 3}.items():
        # Row `feature` of 4H numbers, of which gate k has H.
        want = expected(gate, units, inputs, lambda unit, row, k=k: row * 4 * units + k * units + unit)
        np.testing.assert_array_equal(getattr(view, gate), want)


@pytest.mark.parametrize(("units", "features"), SIZES)
@pytest.mark.parametrize("matrix", ["input", "recurrent"])
def test_keras_1_stores_four_arrays_in_the_order_i_g_f_o(matrix: str, units: int, features: int):
    inputs = features if matrix == "input" else units
    pattern = KERAS_1.input_matrix if matrix == "input" else KERAS_1.recurrent_matrix
    stored = [numbered(inputs, units) + 1000 * k for k in range(4)]
    view = pattern.view(stored)
    for gate, k in {"i": 0, "g": 1, "f": 2, "o": 3}.items():
        want = expected(gate, units, inputs, lambda unit, row, k=k: 1000 * k + row * units + unit)
        np.testing.assert_array_equal(getattr(view, gate), want)


@pytest.mark.parametrize(("units", "features"), SIZES)
@pytest.mark.parametrize("matrix", ["input", "recurrent"])
@pytest.mark.parametrize(("layout", "order"), [(TORCH, "ifgo"), (ONNX, "iofg")], ids=["torch", "onnx"])
def test_torch_and_onnx_store_a_gate_as_rows(layout: Layout, order: str, matrix: str, units: int, features: int):
    inputs = features if matrix == "input" else units
    pattern = layout.input_matrix if matrix == "input" else layout.recurrent_matrix
    view = pattern.view(numbered(4 * units, inputs))
    for gate in "ifgo":
        k = PLACE[order][gate]
        want = expected(gate, units, inputs, lambda unit, column, k=k: (k * units + unit) * inputs + column)
        np.testing.assert_array_equal(getattr(view, gate), want)


@pytest.mark.parametrize(("units", "features"), SIZES)
@pytest.mark.parametrize("matrix", ["input", "recurrent"])
def test_cudnn_stores_a_flat_buffer_of_rows_in_the_order_i_f_g_o(matrix: str, units: int, features: int):
    inputs = features if matrix == "input" else units
    pattern = CUDNN.input_matrix if matrix == "input" else CUDNN.recurrent_matrix
    view = pattern.view(numbered(4 * units * inputs), hidden=units)
    for gate, k in {"i": 0, "f": 1, "g": 2, "o": 3}.items():
        want = expected(gate, units, inputs, lambda unit, column, k=k: k * units * inputs + unit * inputs + column)
        np.testing.assert_array_equal(getattr(view, gate), want)


@pytest.mark.parametrize(("units", "features"), SIZES)
def test_cudnn_lstm_layer_stores_each_input_block_as_the_ravel_of_its_transpose(units: int, features: int):
    """FORMATS A.6: ``plain = block.ravel().reshape(H, I).T``, so the gate (H, I) is the ravel reshaped."""
    stored = numbered(features, 4 * units)
    view = CUDNN_LSTM_LAYER.input_matrix.view(stored, units)
    for k, gate in enumerate("ifgo"):
        block = stored[:, k * units : (k + 1) * units]
        np.testing.assert_array_equal(getattr(view, gate), np.ravel(block).reshape(units, features))


def test_cudnn_lstm_layer_of_two_features_and_three_units_by_literal_numbers():
    """Rows 0..11 and 12..23; gate f has columns 3, 4, 5: its six numbers in order are three rows of two."""
    view = CUDNN_LSTM_LAYER.input_matrix.view(numbered(2, 12), 3)
    np.testing.assert_array_equal(view.f, [[3, 4], [5, 15], [16, 17]])


@pytest.mark.parametrize("units", [5, 4, 1])
def test_cudnn_lstm_layer_stores_each_recurrent_block_transposed(units: int):
    """FORMATS A.6: ``plain = block.T``, so the gate (unit, state) is the block as it is."""
    stored = numbered(units, 4 * units)
    view = CUDNN_LSTM_LAYER.recurrent_matrix.view(stored, units)
    for k, gate in enumerate("ifgo"):
        np.testing.assert_array_equal(getattr(view, gate), stored[:, k * units : (k + 1) * units])


@pytest.mark.parametrize("layout", [KERAS, CUDNN_LSTM_LAYER, TORCH, ONNX, CUDNN], ids=lambda row: row.name)
def test_a_bias_is_four_blocks_in_the_order_of_the_gates(layout: Layout):
    order = "iofg" if layout is ONNX else "ifgo"
    view = layout.one_bias.view(numbered(20), 5)
    for gate in "ifgo":
        k = PLACE[order][gate]
        np.testing.assert_array_equal(getattr(view, gate), [5 * k, 5 * k + 1, 5 * k + 2, 5 * k + 3, 5 * k + 4])


def test_a_bias_of_keras_1_is_four_arrays_in_the_order_i_g_f_o():
    view = KERAS_1.one_bias.view([np.full(2, k) for k in range(4)])
    np.testing.assert_array_equal(np.asarray(view), [[0, 0], [2, 2], [1, 1], [3, 3]])


@pytest.mark.parametrize("layout", [KERAS, TORCH, ONNX], ids=lambda row: row.name)
def test_views_share_the_stored_array_s_memory(layout: Layout):
    rows = layout is not KERAS
    stored = numbered(20, 3) if rows else numbered(3, 20)
    view = layout.input_matrix.view(stored)
    for gate in view:
        assert np.shares_memory(gate, stored)
    view.o[4, 2] = -1
    assert (stored == -1).sum() == 1


def test_views_of_a_flat_buffer_share_its_memory():
    stored = numbered(60)
    assert all(np.shares_memory(gate, stored) for gate in CUDNN.input_matrix.view(stored, hidden=5))


def test_views_of_keras_1_arrays_share_their_memory():
    stored = [numbered(3, 5) for _ in range(4)]
    view = KERAS_1.input_matrix.view(stored)
    assert np.shares_memory(view.g, stored[1])
    assert np.shares_memory(view.f, stored[2])


def test_an_array_that_does_not_divide_into_four_gates_is_no_view():
    with pytest.raises(EinopsError):
        KERAS.input_matrix.view(numbered(3, 21))


def test_a_flat_buffer_of_another_size_is_no_view():
    with pytest.raises(EinopsError):
        CUDNN.recurrent_matrix.view(numbered(4 * 5 * 5 + 1), hidden=5)


@pytest.mark.parametrize(
    ("axes", "canonical"),
    [
        ("feature (gate unit)", "gate unit feature"),
        ("state (gate unit)", "gate unit state"),
        ("(gate unit)", "gate unit"),
        ("row (gate column) = gate (unit feature)", "gate unit feature"),
    ],
)
def test_a_pattern_names_the_axes_of_its_view(axes: str, canonical: str):
    assert Pattern(axes, "ifgo").canonical == canonical


def test_the_table_has_six_rows_found_by_name():
    names = ["Keras 2, 3", "Keras 1", "Keras CuDNNLSTM", "PyTorch", "ONNX", "cuDNN"]
    assert [row.name for row in LAYOUTS] == names
    assert [by_name(name).gates for name in names] == ["ifgo", "igfo", "ifgo", "ifgo", "iofg", "ifgo"]
    assert by_name(None) is KERAS


# The other layers' arrays: each stored element by its index, written out.


@pytest.mark.parametrize(
    ("kind", "array", "shape", "torch", "onnx"),
    [
        ("Dense", "kernel", (2, 3), lambda t, i, o: t[o, i], lambda t, i, o: t[i, o]),
        ("Embedding", "table", (5, 3), lambda t, k, f: t[k, f], lambda t, k, f: t[k, f]),
        ("Convolution", "kernel", (7, 2, 3), lambda t, k, i, f: t[f, i, k], lambda t, k, i, f: t[f, i, k]),
        (
            "Convolution",
            "kernel",
            (7, 5, 2, 3),
            lambda t, y, x, i, f: t[f, i, y, x],
            lambda t, y, x, i, f: t[f, i, y, x],
        ),
        ("TransposedConvolution", "kernel", (7, 2, 3), lambda t, k, f, i: t[i, f, k], lambda t, k, f, i: t[i, f, k]),
        (
            "MultiHeadAttention",
            "query_kernel",
            (7, 2, 3),
            lambda t, f, h, s: t[h * 3 + s, f],
            lambda t, f, h, s: t[f, h * 3 + s],
        ),
        (
            "MultiHeadAttention",
            "output_kernel",
            (2, 3, 7),
            lambda t, h, s, o: t[o, h * 3 + s],
            lambda t, h, s, o: t[h * 3 + s, o],
        ),
    ],
)
def test_each_number_of_a_layers_array_lies_where_its_format_has_it(kind, array, shape, torch, onnx):
    row, own = rows_of(kind)[array], numbered(*shape)
    for target, at in (("torch", torch), ("onnx", onnx)):
        (stored,) = row.parts(own, target)
        assert all(at(stored, *index) == own[index] for index in np.ndindex(*shape))
        sizes = {"head": 2} if "head" in row.axes else {}
        np.testing.assert_array_equal(row.view(stored, target, **sizes), own)


def test_the_gates_of_a_gru_are_z_r_h_in_keras_and_onnx_and_r_z_n_in_torch():
    row = rows_of("GRU")["weight_ih"]
    kernel = numbered(2, 15)  # 2 features, 3 gates of 5 units, as Keras stores it.
    z, r, h = (kernel[:, k * 5 : k * 5 + 5].T for k in range(3))
    model = row.view(kernel, "keras")
    np.testing.assert_array_equal(model, [z, r, h])
    np.testing.assert_array_equal(np.concatenate(row.parts(model, "torch")), np.concatenate([r, z, h]))
    np.testing.assert_array_equal(np.concatenate(row.parts(model, "onnx")), np.concatenate([z, r, h]))
    np.testing.assert_array_equal(row.view(np.concatenate([r, z, h]), "torch"), [z, r, h])
    bias = rows_of("GRU")["bias_ih"]
    np.testing.assert_array_equal(
        np.concatenate(bias.parts(numbered(3, 5), "torch")), [*range(5, 10), *range(5), *range(10, 15)]
    )


def test_every_array_of_every_kind_has_one_row():
    from dataclasses import fields

    from lstmconv.model import GRUDirection, SimpleRNNDirection
    from lstmconv.model.kinds import Kind

    stated = {("Constant", "value"), ("Rescaling", "scale"), ("Rescaling", "offset")}  # What a config states.
    held = [("GRU", GRUDirection), ("SimpleRNN", SimpleRNNDirection), *((k.__name__, k) for k in Kind.__subclasses__())]
    wanted = {(name, field.name) for name, kind in held for field in fields(kind) if field.type.startswith("Array")}
    found = [(row.kind, row.array) for row in ARRAYS]
    assert set(found) == wanted - stated
    assert len(found) == len(set(found))
