"""Every ordered pair of formats: what one writes the next one reads, bit for bit but for the summed bias."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import lstmconv
from lstmconv.formats import TARGETS
from lstmconv.formats.hdf5 import tree
from lstmconv.model import Gates, LSTMDirection, LSTMLayer
from tests._cases import walk_here
from tests.contract.building import make_checkpoint


@pytest.fixture(autouse=True, scope="module")
def _trust_these_files():
    """Walk Keras files here and not in a child: lstmconv has just written them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "described", walk_here)
        yield


FILES = {
    "torch": ("m.pt", {}),
    "safetensors": ("m.safetensors", {}),
    "onnx": ("m.onnx", {}),
    "cudnn": ("m.cudnn.safetensors", {}),
    "cudnn bare": ("m.cudnn.bin", {}),
    "keras": ("m.keras", {}),
    "keras weights": ("m.weights.h5", {}),
    "keras h5": ("m.h5", {}),
    "keras h5 weights": ("m.h5", {"weights_only": True}),
    "keras 2": ("m.keras", {"keras_version": 2}),
    "keras 2 h5": ("m.h5", {"keras_version": 2}),
    "keras-cudnn": ("m.cudnn.h5", {}),
}
ONE_BIAS = {name for name in FILES if name.startswith("keras") and name != "keras-cudnn"}
DTYPES = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}
NO_BFLOAT16 = {"keras h5", "keras h5 weights", "keras 2", "keras 2 h5", "keras-cudnn"}
"""Keras itself cannot load bfloat16 from legacy HDF5 (it stores opaque bytes without saying so), tf-keras from none."""


def test_every_format_is_in_the_pairs():
    assert {entry.name for entry in TARGETS if entry.layers_alone} == {name.split()[0] for name in FILES}


def strange(random, shape, dtype):
    """Draw numbers among which are -0.0, the smallest subnormals, inf and NaNs with payloads."""
    values = (random.normal(size=shape) * 0.6).astype(dtype)
    flat = values.reshape(-1)
    width = flat.dtype.itemsize
    whole = flat.view(f"u{width}")
    nan = int(np.array(np.inf, dtype).view(f"u{width}")) + 5  # A NaN whose payload is 5, signalling.
    sign = 1 << (8 * width - 1)
    specials = [sign, 1, sign + 1, int(np.array(np.inf, dtype).view(f"u{width}")), nan, nan + sign]
    places = random.choice(flat.size, size=min(len(specials), flat.size), replace=False)
    whole[places] = np.array(specials[: len(places)], whole.dtype)
    return values


def make_direction(random, features, hidden, dtype, *, biases, backwards=False):
    def gates(*shape):
        array = strange(random, (4, *shape), dtype)
        return Gates(*array)

    return LSTMDirection(
        gates(hidden, features),
        gates(hidden, hidden),
        gates(hidden) if biases else None,
        gates(hidden) if biases == 2 else None,
        go_backwards=backwards,
    )


def make_layers(dtype, *, sizes, bidirectional, biases, seed=0):
    """Make a chain of layers: sizes are the features, then each layer's units."""
    random = np.random.default_rng(seed)
    made = []
    features = sizes[0]
    for k, hidden in enumerate(sizes[1:]):
        halves = [
            make_direction(random, features, hidden, dtype, biases=biases, backwards=bool(way))
            for way in range(2 if bidirectional else 1)
        ]
        made.append(LSTMLayer(f"rnn_l{k}", *halves))
        features = hidden * len(halves)
    return made


def bits(gates):
    """See gates as unsigned integers, so that signs of zero and NaN payloads count."""
    array = np.ascontiguousarray(np.asarray(gates))
    return array.view(f"u{array.dtype.itemsize}")


def bias_bits(direction, *, summed):
    """Return the bits of both biases, or of their sum; absent ones are zeros, and x + 0 is x."""
    zero = np.zeros((4, direction.hidden_size), direction.dtype)
    a, b = (zero if bias is None else np.asarray(bias) for bias in (direction.bias_ih, direction.bias_hh))
    if not summed:
        return [bits(a), bits(b)]
    with np.errstate(all="ignore"):
        total = np.where(b == 0, a, np.where(a == 0, b, a + b))
    return [bits(total)]


def assert_same(found, expected, *, summed):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert len(mine.directions) == len(theirs.directions)
        for half, wanted in zip(mine.directions, theirs.directions, strict=True):
            np.testing.assert_array_equal(bits(half.weight_ih), bits(wanted.weight_ih))
            np.testing.assert_array_equal(bits(half.weight_hh), bits(wanted.weight_hh))
            for own, other in zip(bias_bits(half, summed=summed), bias_bits(wanted, summed=summed), strict=True):
                np.testing.assert_array_equal(own, other)


def pass_on(checkpoint, folder, name):
    """Write a checkpoint in one format and read it again."""
    file, options = FILES[name]
    folder.mkdir(exist_ok=True)
    lstmconv.save(checkpoint, folder / file, to=name.split()[0], **options)
    return lstmconv.load(folder / file)


def holds(name, dtype):
    return not (dtype == "bfloat16" and name in NO_BFLOAT16)


def pairs(*choices, held=lambda name, choice: True):
    """List every pair of formats with one choice each: in turn, so that each format meets all that it holds."""
    found = []
    for first, second in itertools.product(FILES, FILES):
        possible = [choice for choice in choices if held(first, choice) and held(second, choice)]
        turn = list(FILES).index(first) + list(FILES).index(second)
        found.append(((first, possible[turn % len(possible)]), second))
    return found


# What the first format holds is written and read once, for all formats that come after it.


@pytest.fixture(scope="module")
def two_biases(request, tmp_path_factory):
    """Return the first format, the layers, and what was read of them."""
    first, dtype = request.param
    layers = make_layers(DTYPES[dtype], sizes=(3, 5), bidirectional=True, biases=2)
    return first, layers, pass_on(make_checkpoint(*layers), tmp_path_factory.mktemp("first"), first)


@pytest.mark.parametrize(("two_biases", "second"), pairs(*DTYPES, held=holds), indirect=["two_biases"])
def test_weights_go_from_every_format_to_every_format(tmp_path, two_biases, second):
    """A bidirectional layer with two biases: bits stay, and a target with one bias holds the sum."""
    first, layers, checkpoint = two_biases
    read = pass_on(checkpoint, tmp_path, second)
    assert [layer.name for layer in read.layers] == ["rnn_l0"]
    assert_same(read.layers, layers, summed=bool({first, second} & ONE_BIAS))


@pytest.fixture(scope="module")
def few_biases(request, tmp_path_factory):
    """Return the first format, the number of biases, the layers, and what was read of them."""
    first, biases = request.param
    layers = make_layers(np.float32, sizes=(5, 5), bidirectional=False, biases=biases)
    return first, biases, layers, pass_on(make_checkpoint(*layers), tmp_path_factory.mktemp("first"), first)


@pytest.mark.parametrize(("few_biases", "second"), pairs(0, 1), indirect=["few_biases"])
def test_a_single_bias_and_none_come_through_every_pair(tmp_path, few_biases, second):
    """One bias is never rounded; a layer without one stays without, or gets zeros where the format needs them."""
    first, biases, layers, checkpoint = few_biases
    read = pass_on(checkpoint, tmp_path, second)
    assert_same(read.layers, layers, summed=True)
    if not biases and "keras-cudnn" not in (first, second):
        assert not read.layers[0].has_bias


@pytest.fixture(scope="module")
def stack(request, tmp_path_factory):
    """Return the first format, the layers of one or two directions, and what was read of them."""
    first, directions = request.param
    layers = make_layers(np.float32, sizes=(3, 5, 5, 5), bidirectional=directions == 2, biases=2)
    names = tuple(layer.name for layer in layers)
    checkpoint = make_checkpoint(*layers, joined={"rnn": names}, edges=tuple(itertools.pairwise(names)))
    return first, layers, pass_on(checkpoint, tmp_path_factory.mktemp("first"), first)


@pytest.mark.parametrize(("stack", "second"), pairs(1, 2), indirect=["stack"])
def test_a_stack_goes_from_every_format_to_every_format(tmp_path, stack, second):
    first, layers, checkpoint = stack
    read = pass_on(checkpoint, tmp_path, second)
    names = tuple(layer.name for layer in layers)
    assert [layer.name for layer in read.layers] == list(names)
    assert_same(read.layers, layers, summed=bool({first, second} & ONE_BIAS))
    opened = any(name.startswith("keras") for name in (first, second))
    assert dict(read.joined) == ({} if opened else {"rnn": names})
    if not {first, second} & {"keras weights", "keras h5 weights"}:
        assert read.edges == tuple(itertools.pairwise(names))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("features", "hidden"), [(1, 1), (7, 1), (1, 7), (5, 5), (20, 5), (13, 11)])
def test_sizes_are_discovered(tmp_path, name, features, hidden):
    layers = make_layers(np.float32, sizes=(features, hidden), bidirectional=True, biases=2)
    read = pass_on(make_checkpoint(*layers), tmp_path / "a", name)
    assert (read.layers[0].input_size, read.layers[0].hidden_size) == (features, hidden)
    assert_same(read.layers, layers, summed=name in ONE_BIAS)


@pytest.mark.parametrize("name", FILES)
def test_options_come_back(tmp_path, name):
    """What a file cannot say in its own words stands in what lstmconv notes in it."""
    random = np.random.default_rng(0)
    layer = LSTMLayer(
        "memory",
        make_direction(random, 3, 5, np.float32, biases=1),
        return_sequences=False,
        return_state=True,
    )
    read = pass_on(make_checkpoint(layer), tmp_path / "a", name).layers[0]
    assert (read.name, read.return_sequences, read.return_state) == ("memory", False, True)
    assert str(read.activation) == "tanh"
    assert str(read.recurrent_activation) == "sigmoid"


@pytest.fixture(scope="module")
def same_weights(tmp_path_factory):
    """Write finite weights, whose outputs can be compared too, in every format; return the files by format."""
    random = np.random.default_rng(3)

    def gates(*shape):
        return Gates(*(random.normal(size=(4, *shape)) * 0.6).astype(np.float32))

    layers = [
        LSTMLayer("rnn_l0", LSTMDirection(gates(5, 3), gates(5, 5), gates(5), gates(5))),
        LSTMLayer("rnn_l1", LSTMDirection(gates(5, 5), gates(5, 5), gates(5), gates(5))),
    ]
    names = ("rnn_l0", "rnn_l1")
    checkpoint = make_checkpoint(*layers, joined={"rnn": names}, edges=(names,))
    folders = {name: tmp_path_factory.mktemp("same") for name in FILES}
    for name, folder in folders.items():
        pass_on(checkpoint, folder, name)
    return {name: folder / FILES[name][0] for name, folder in folders.items()}


@pytest.mark.parametrize("first", FILES)
@pytest.mark.parametrize("second", FILES)
def test_any_two_files_can_be_verified_against_each_other(same_weights, first, second):
    """Outputs are compared too where the framework is there."""
    report = lstmconv.verify(same_weights[first], same_weights[second])
    report.raise_for_failure()
    assert report.passed
