"""Large weights go into files a slab at a time: the same bytes, and little memory."""

import hashlib
import mmap
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import lstmconv
from lstmconv.arrays import copying, mapping
from lstmconv.arrays.copying import joined, packed, slabs
from lstmconv.errors import LstmconvError, UnsupportedModelError, UsageError
from lstmconv.layouts import CUDNN, KERAS, ONNX, TORCH
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Provenance
from tests._cases import assert_same_bits

SUFFIXES = [".safetensors", ".pt", ".onnx", ".cudnn.safetensors"]


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make files of some kilobytes large ones."""
    sizes = {"_SLAB_BYTES": 4096, "_SMALL_BYTES": 64, "_WRITTEN_BYTES": 1000, "_BAND_BYTES": 2048}
    for name, size in sizes.items():
        monkeypatch.setattr(copying, name, size)


def mapped_kernel(path: Path, features: int, units: int) -> np.ndarray:
    """Return numbers 0, 1, 2, ... in a file as Keras stores a kernel, mapped."""
    np.arange(features * 4 * units, dtype=np.float32).tofile(path)
    return np.memmap(path, np.float32, "r", shape=(features, 4 * units))


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("layout", [TORCH, ONNX, CUDNN], ids=lambda row: row.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda kind: kind.__name__)
def test_slabs_are_the_gates_in_the_layout_s_order(tmp_path, layout, dtype):
    """Keras' column c of gate k is row c of the block of that gate: written out by NumPy's own transpose."""
    kernel = mapped_kernel(tmp_path / "kernel", 70, 33)
    gates = KERAS.input_matrix.view(kernel)
    blocks = np.split(np.asarray(kernel), 4, axis=1)
    expected = np.concatenate([blocks["ifgo".index(gate)].T for gate in layout.gates]).astype(dtype).tobytes()
    content = b"".join(bytes(part) for part in slabs([(layout.input_matrix, gates)], np.dtype(dtype)))
    assert content == expected
    assert joined([(layout.input_matrix, gates)], np.dtype(dtype)).tobytes() == expected


@pytest.mark.usefixtures("small_slabs")
def test_blocks_in_either_order_keep_every_bit():
    bits = np.random.default_rng(0).integers(0, 1 << 32, (200, 4 * 130), np.uint32)
    gates = KERAS.input_matrix.view(bits.view(np.float32))
    for layout, shape in ((TORCH, (520, 200)), (KERAS, (200, 520))):
        back = layout.input_matrix.view(packed(layout.input_matrix, gates, shape))
        assert_same_bits(back, np.stack(list(gates)))


@pytest.mark.usefixtures("small_slabs")
def test_a_weight_that_does_not_fit_is_found_in_any_slab():
    kernel = np.zeros((70, 4 * 33))
    kernel[69, 4 * 33 - 1] = 1e6
    gates = KERAS.input_matrix.view(kernel)
    with pytest.raises(UnsupportedModelError, match="the weight 1e\\+06 does not fit float16"):
        list(slabs([(TORCH.input_matrix, gates)], np.dtype(np.float16)))


def test_gates_side_by_side_are_no_blocks():
    gates = KERAS.input_matrix.view(np.zeros((3, 8), np.float32))
    with pytest.raises(UsageError, match="not one block each"):
        list(slabs([(KERAS.input_matrix, gates)], np.dtype(np.float32)))


def test_letting_pages_go_never_loses_what_was_written_to_a_private_map(tmp_path):
    np.zeros(1 << 20, np.float32).tofile(tmp_path / "w")
    private = np.memmap(tmp_path / "w", np.float32, "c", shape=(1 << 10, 1 << 10))
    private[:] = 7
    mapping.let_go(private)
    assert (private == 7).all()


def square_layer(matrix: np.ndarray) -> Checkpoint:
    """Return a layer whose two matrices are the same mapped one."""
    gates = KERAS.input_matrix.view(matrix)
    return Checkpoint((LSTMLayer("lstm", LSTMDirection(gates, gates)),), Provenance("m.h5", "0" * 64, "Keras HDF5"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writing_allocates_two_slabs_and_not_the_weights(tmp_path, monkeypatch, suffix):
    """Two matrices of 16 MiB each through slabs of 1 MiB; what is held beside them is small."""
    monkeypatch.setattr(copying, "_SLAB_BYTES", 1 << 20)
    monkeypatch.setattr(copying, "_SMALL_BYTES", 1 << 16)
    checkpoint = square_layer(mapped_kernel(tmp_path / "kernel", 1024, 1024))
    lstmconv.save(checkpoint, tmp_path / f"once{suffix}")  # Libraries are loaded.
    tracemalloc.start()
    lstmconv.save(checkpoint, tmp_path / f"m{suffix}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / f"m{suffix}").stat().st_size > 32 << 20
    assert peak < 4 << 20


def test_the_bytes_do_not_depend_on_the_slabs(tmp_path, monkeypatch):
    checkpoint = square_layer(mapped_kernel(tmp_path / "kernel", 96, 96))
    for suffix in SUFFIXES:
        lstmconv.save(checkpoint, tmp_path / f"whole{suffix}")
    monkeypatch.setattr(copying, "_SLAB_BYTES", 5000)
    monkeypatch.setattr(copying, "_SMALL_BYTES", 64)
    for suffix in SUFFIXES:
        lstmconv.save(checkpoint, tmp_path / f"slabs{suffix}")
        assert (tmp_path / f"slabs{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


def test_a_large_source_is_hashed_while_it_is_converted(tmp_path, monkeypatch):
    """The header of a safetensors file is written twice, and says the true hash in the end."""
    from lstmconv.formats import hashing

    monkeypatch.setattr(hashing, "_HASHED_AT_ONCE", 0)
    source = Path(__file__).parent.parent / "sample_weights" / "airline_passengers.h5"
    plain = lstmconv.convert(source, tmp_path / "a.safetensors").paths[0].read_bytes()
    monkeypatch.undo()
    assert lstmconv.convert(source, tmp_path / "b.safetensors").paths[0].read_bytes() == plain


def owner_of(array: np.ndarray) -> object:
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner


def test_large_weights_inside_an_onnx_model_are_mapped(tmp_path):
    """What onnx itself reads from the same file is what is expected; the model is reached by a link, as in caches."""
    import onnx

    lstmconv.save(square_layer(mapped_kernel(tmp_path / "kernel", 300, 300)), tmp_path / "m.onnx")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "link.onnx").symlink_to(tmp_path / "m.onnx")
    half = lstmconv.load(tmp_path / "cache" / "link.onnx").layers[0].forward
    assert isinstance(owner_of(half.weight_ih.i), mmap.mmap)
    stored = {
        entry.name: onnx.numpy_helper.to_array(entry) for entry in onnx.load(tmp_path / "m.onnx").graph.initializer
    }
    (weights,) = (array for name, array in stored.items() if name.endswith(".W"))
    for block, gate in enumerate("iofg"):
        rows = weights[0, 300 * block : 300 * (block + 1)]
        assert getattr(half.weight_ih, gate).tobytes() == rows.tobytes()


def test_a_model_without_its_weights_is_the_model(tmp_path, monkeypatch):
    """Whatever stays in the file: the same layers, the same hash, and a cut file is refused all the same."""
    from lstmconv.formats.onnx.reader import parse_lazily

    lstmconv.save(square_layer(mapped_kernel(tmp_path / "kernel", 31, 31)), tmp_path / "m.onnx")
    whole = lstmconv.load(tmp_path / "m.onnx")
    monkeypatch.setattr(parse_lazily, "_LARGE_BYTES", 1)
    taken_apart = lstmconv.load(tmp_path / "m.onnx")
    assert taken_apart.provenance == whole.provenance
    assert hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest() == whole.provenance.sha256
    ours, theirs = (checkpoint.layers[0].forward.arrays for checkpoint in (taken_apart, whole))
    assert [gate.tobytes() for name in ours for gate in ours[name]] == [
        g.tobytes() for name in ours for g in theirs[name]
    ]
    content = (tmp_path / "m.onnx").read_bytes()
    for cut in range(1, len(content), len(content) // 50):
        (tmp_path / "cut.onnx").write_bytes(content[:-cut])
        with pytest.raises(LstmconvError):
            lstmconv.load(tmp_path / "cut.onnx")


def test_bfloat16_slabs_are_bytes(monkeypatch):
    monkeypatch.setattr(copying, "_SMALL_BYTES", 1)
    gates = Gates(*(np.full((4, 3), value, np.float32) for value in (1, 2, 3, 4)))
    content = b"".join(map(bytes, slabs([(TORCH.input_matrix, gates)], np.dtype(ml_dtypes.bfloat16))))
    assert content == b"".join(bytes.fromhex(each) * 12 for each in ("803f", "0040", "4040", "8040"))


@pytest.mark.slow
@pytest.mark.skipif("LSTMCONV_BIG_FILES" not in os.environ, reason="LSTMCONV_BIG_FILES=1 takes 30 s and 1 GB of disk")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_converting_half_a_gigabyte_stays_under_300_megabytes(tmp_path, suffix):
    benchmark = Path(__file__).parent / "benchmarks" / "run.py"
    source = tmp_path / "m.h5"
    subprocess.run([sys.executable, benchmark, "--write", "4000", "--folder", source], check=True)
    code = (
        "import resource, sys; from lstmconv.cli import main; sys.argv[0] = 'lstmconv'\n"
        "main.__globals__['app'](standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, "convert", str(source), str(tmp_path / f"m{suffix}"), "--no-verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) * 1024 < 300e6
