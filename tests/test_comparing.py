"""Every number is compared, wherever it lies and whatever its dtype; NumPy is the judge."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from lstmconv.arrays import comparing, copying
from lstmconv.arrays.comparing import difference
from lstmconv.errors import UnsupportedModelError
from lstmconv.model import Gates

UNITS, FEATURES = 23, 41


@pytest.fixture(params=["at once", "one block", "many blocks, windows and bands"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare in one piece, and in pieces that divide nothing evenly."""
    if request.param == "at once":
        return
    monkeypatch.setattr(comparing, "_SMALL_BYTES", 0)
    if request.param == "one block":
        return
    small = {"_ROWS": 3, "_COLUMNS": 7, "_ROW_GAP": 1, "_WINDOW_BYTES": 41 * 4 * 5, "_BAND_BYTES": 23 * 4 * 6}
    for name, size in small.items():
        monkeypatch.setattr(comparing, name, size)
    monkeypatch.setattr(copying, "_SMALL_BYTES", 16)


def gates_of(rows: np.ndarray, *, turned: bool) -> Gates:
    """Return gates ``(units, features)`` that lie in memory by units, or by features."""
    return Gates(*(np.ascontiguousarray(gate.T).T if turned else np.ascontiguousarray(gate) for gate in rows))


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("source_turned", [False, True])
@pytest.mark.parametrize("target_turned", [False, True])
def test_every_number_counts_wherever_it_lies(source_turned: bool, target_turned: bool):
    """One bit is flipped at a time: at corners, edges and in the middle of each gate."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, (4, UNITS, FEATURES), np.uint32)
    source = gates_of(bits.view(np.float32), turned=source_turned)
    assert difference(source, gates_of(bits.view(np.float32), turned=target_turned)) is None
    places = [(k, u, x) for k in range(4) for u in (0, 11, UNITS - 1) for x in (0, 20, FEATURES - 1)]
    for place in places:
        other = bits.copy()
        other[place] ^= 1 << 31
        found = difference(source, gates_of(other.view(np.float32), turned=target_turned))
        assert found is not None
        gate, unit, feature = place
        assert (found.wrong, found.total) == (1, bits.size)
        assert (found.gate, found.place) == ("ifgo"[gate], (unit, feature))
        np.testing.assert_equal([found.expected, -found.expected], [-found.found, found.found])


@pytest.mark.usefixtures("sizes")
def test_the_first_is_named_and_all_are_counted():
    rows = np.random.default_rng(1).normal(size=(4, UNITS, FEATURES)).astype(np.float32)
    other = rows.copy()
    wrong = [(1, 2, 30), (1, 5, 0), (3, 22, 40)]
    for place in wrong:
        other[place] += 1
    found = difference(gates_of(rows, turned=True), gates_of(other, turned=False))
    assert found == comparing.Difference(3, rows.size, "f", (2, 30), other[1, 2, 30], rows[1, 2, 30])


@pytest.mark.usefixtures("sizes")
def test_biases_are_compared_too():
    rows = np.arange(4 * UNITS, dtype=np.float64).reshape(4, UNITS)
    other = rows.copy()
    other[2, 7] = 0.5
    assert difference(Gates(*rows), Gates(*rows.copy())) is None
    found = difference(Gates(*rows), Gates(*other))
    assert found == comparing.Difference(1, 4 * UNITS, "g", (7,), 0.5, rows[2, 7])


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64], ids=lambda kind: kind.__name__)
def test_the_source_is_rounded_once_to_the_target_s_dtype(dtype: type):
    rows = np.random.default_rng(2).normal(size=(4, UNITS, FEATURES)).astype(np.float32)
    assert difference(gates_of(rows, turned=True), gates_of(rows.astype(dtype), turned=False)) is None
    wrong = rows.astype(dtype)
    wrong[3, 4, 5] = np.nextafter(wrong[3, 4, 5], dtype(9)) if dtype is not ml_dtypes.bfloat16 else 9
    found = difference(gates_of(rows, turned=True), gates_of(wrong, turned=False))
    assert found is not None
    assert (found.wrong, found.gate, found.place) == (1, "o", (4, 5))


def test_a_target_in_the_other_byte_order_is_compared_by_its_numbers():
    rows = np.random.default_rng(3).normal(size=(4, UNITS, FEATURES)).astype(np.float32)
    assert difference(gates_of(rows, turned=True), gates_of(rows.astype(">f4"), turned=False)) is None


def test_a_number_that_does_not_fit_is_refused_and_not_compared_as_infinite():
    rows = np.full((4, UNITS, FEATURES), 1e6, np.float32)
    with np.errstate(over="ignore"):
        stored = rows.astype(np.float16)
    with pytest.raises(UnsupportedModelError, match="does not fit float16"):
        difference(gates_of(rows, turned=True), gates_of(stored, turned=False))
