"""Any layer, of any size, direction, bias and dtype, through any two formats: the bits stay."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.contract.building import make_checkpoint
from tests.contract.test_pairs import DTYPES, FILES, ONE_BIAS, assert_same, holds, make_layers, pass_on


@given(
    formats=st.lists(st.sampled_from(sorted(FILES)), min_size=1, max_size=3),
    dtype=st.sampled_from(sorted(DTYPES)),
    features=st.integers(1, 9),
    units=st.integers(1, 6),
    count=st.integers(1, 3),
    bidirectional=st.booleans(),
    biases=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_weights_come_through_any_chain_of_formats(formats, dtype, features, units, count, bidirectional, biases, seed):
    assume(all(holds(name, dtype) for name in formats))
    sizes = (features, *[units] * count)
    layers = make_layers(DTYPES[dtype], sizes=sizes, bidirectional=bidirectional, biases=biases, seed=seed)
    names = tuple(layer.name for layer in layers)
    checkpoint = make_checkpoint(*layers, joined={"rnn": names} if count > 1 else {}, edges=tuple(pairwise(names)))
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(formats):
            checkpoint = pass_on(checkpoint, Path(folder) / str(number), name)
        assert [layer.name for layer in checkpoint.layers] == list(names)
        assert_same(checkpoint.layers, layers, summed=biases < 2 or bool(set(formats) & ONE_BIAS))
