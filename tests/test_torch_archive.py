"""The reader of what torch.save wrote: every form of a good file, bit for bit, and every form of a bad one."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zipfile
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from pathlib import PosixPath

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from lstmconv.errors import NoLSTMError, UnreadableFileError
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.safety import limits
from lstmconv.formats.torch.tensors_by_name import read_tensors

ZIP, LEGACY = {}, {"_use_new_zipfile_serialization": False}
CONTAINERS = pytest.mark.parametrize("container", [ZIP, LEGACY], ids=["zip", "legacy"])


def numbers(tensor):
    """Return a tensor as an array of the same bits, by PyTorch's own means."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_same(found, tensor):
    """Compare shape, type and every bit."""
    wanted = numbers(tensor)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    assert found.tobytes() == wanted.tobytes()


def assert_holds(path, state):
    """Check that the file holds exactly these tensors, by these keys, in this order."""
    found = read_tensors(MappedFile(path)).tensors
    assert list(found) == list(state)
    for key, tensor in state.items():
        assert_same(found[key], tensor)


def save(folder, value, **options):
    path = folder / "model.pt"
    torch.save(value, path, **options)
    return path


def refusal(path):
    """Return the one line with which the file is refused, without its name."""
    with pytest.raises((UnreadableFileError, NoLSTMError)) as error:
        read_tensors(MappedFile(path))
    text = str(error.value)
    assert text.isprintable()
    assert text.startswith(f"{path.name}: ")
    assert len(text) < 400
    return text.removeprefix(f"{path.name}: ")


def random_state(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.LSTM(3, 5, 2, bidirectional=True).to(dtype).state_dict()


def records_of(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def write_zip(path, records, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


# Good files


@CONTAINERS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_state_dict_is_read_bit_for_bit(tmp_path, dtype, container):
    """state_dict() hangs _metadata on its OrderedDict, through BUILD."""
    state = random_state(dtype)
    assert hasattr(state, "_metadata")
    assert_holds(save(tmp_path, state, **container), state)


@CONTAINERS
def test_not_a_number_and_minus_zero_keep_their_bits(tmp_path, container):
    bits = torch.tensor([0x7FC00001, -0x80000000, 0x7F800000, 1, 0x7F800001], dtype=torch.int32)
    assert_holds(save(tmp_path, {"w": bits.view(torch.float32)}, **container), {"w": bits.view(torch.float32)})


@CONTAINERS
@pytest.mark.parametrize(
    "name",
    [
        *("float16", "bfloat16", "float32", "float64", "bool", "complex64", "complex128"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    ],
)
def test_tensors_of_every_type_are_read(tmp_path, name, container):
    dtype = getattr(torch, name)
    tensor = torch.arange(60, dtype=torch.float64).to(dtype).view(5, 12)
    state = {"w": tensor, "column": tensor[:, 3], "scalar": tensor[1, 2]}
    assert_holds(save(tmp_path, state, **container), state)


@CONTAINERS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
def test_trap_29_views_with_offsets_and_strides_are_read_as_torch_saved_them(tmp_path, dtype, container):
    """After flatten_parameters on a GPU all parameters are views of one storage."""
    storage = torch.arange(200).to(dtype)
    state = {
        "plain": storage[:12].view(3, 4),
        "offset": storage[48:112].view(16, 4),
        "transposed": storage[112:124].view(3, 4).T,
        "strided": storage[1::7],
        "expanded": storage[5:6].expand(3, 6),
        "overlapping": storage.as_strided((5, 6), (2, 3), 4),
        "scalar": storage[9],
        "empty": storage[3:3],
        "no rows": torch.empty(0, 4, dtype=dtype),
        "one row": storage[8:12].as_strided((1, 4), (1 << 62, 1)),
        "other": torch.ones(2, 3, dtype=dtype),
    }
    assert_holds(save(tmp_path, state, **container), state)


@CONTAINERS
def test_a_tensor_may_be_expanded_beyond_its_storage(tmp_path, container):
    state = {"w": torch.tensor([2.5]).expand(40, 6)}
    assert_holds(save(tmp_path, state, **container), state)


@CONTAINERS
def test_arrays_are_read_only_views_of_the_file(tmp_path, container):
    tensors = read_tensors(MappedFile(save(tmp_path, random_state(), **container))).tensors
    for array in tensors.values():
        assert not array.flags.writeable
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base.base, mmap.mmap)
    with pytest.raises(TypeError):
        tensors["w"] = 1


@CONTAINERS
def test_tensors_of_one_storage_share_memory(tmp_path, container):
    storage = torch.arange(10.0)
    tensors = read_tensors(MappedFile(save(tmp_path, {"a": storage[:8], "b": storage[4:]}, **container))).tensors
    assert np.shares_memory(tensors["a"], tensors["b"])


@CONTAINERS
def test_parameters_and_tensors_with_attributes_are_read(tmp_path, container):
    plain, marked = nn.Parameter(torch.rand(3)), nn.Parameter(torch.rand(4), requires_grad=False)
    marked.tag = "frozen"  # _rebuild_parameter_with_state
    attributed = torch.rand(2)
    attributed.note = {"a": 1}  # _rebuild_from_type_v2
    state = {
        "p": plain,
        "m": marked,
        "a": attributed,
        "b": nn.Buffer(torch.rand(2)),
        "g": torch.rand(1).requires_grad_(),
    }
    assert_holds(save(tmp_path, state, **container), state)


@CONTAINERS
def test_a_checkpoint_with_optimizer_state_is_flattened(tmp_path, container):
    module = nn.LSTM(3, 4)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.rand(2, 1, 3))[0].sum().backward()
    optimizer.step()
    path = save(
        tmp_path,
        {
            "epoch": 3,
            "state_dict": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "history": [0.5, {"best": torch.tensor(7)}],
            "args": None,
        },
        **container,
    )
    found = read_tensors(MappedFile(path)).tensors
    wanted = torch.load(path, weights_only=True)
    for key, tensor in wanted["state_dict"].items():
        assert_same(found[f"state_dict/{key}"], tensor)
    for index, state in wanted["optimizer"]["state"].items():
        for key, tensor in state.items():
            assert_same(found[f"optimizer/state/{index}/{key}"], tensor)
    assert_same(found["history/1/best"], wanted["history"][1]["best"])
    assert len(found) == 4 + 4 * 3 + 1


@CONTAINERS
def test_plain_values_beside_the_tensors_are_passed_over(tmp_path, container):
    extras = {
        "none": None,
        "numbers": [1, -5, 70000, 1 << 40, 1 << 100, -(1 << 90), 2.5, True, False, 1 + 2j],
        "text": "ünïcode" * 100,
        "bytes": b"a\xff",
        "bytearray": bytearray(b"xy"),
        "set": {1, 2},
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda:1"),
        "dtypes": [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.float8_e5m2],
        "counter": Counter("aab"),
        "ordered": OrderedDict(a=1),
        "layout": torch.strided,
        3: "three",
        None: (),
        (1, "two"): [],
    }
    assert_holds(save(tmp_path, {"w": torch.ones(2), **extras}, **container), {"w": torch.ones(2)})


@CONTAINERS
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_protocol_that_torch_can_save_with_is_read(tmp_path, protocol, container):
    state = {"w": torch.rand(3, 2), "b": torch.ones(2).bool()}
    path = save(tmp_path, {"s": state, "t": (1, 2.5, b"b", {3}, "x" * 300)}, pickle_protocol=protocol, **container)
    assert_holds(path, {f"s/{key}": tensor for key, tensor in state.items()})


def test_prefixes_of_data_parallel_and_compile_stay_in_the_keys(tmp_path):
    module = nn.Sequential(nn.LSTM(3, 4))
    assert_holds(
        save(tmp_path, nn.DataParallel(module).state_dict()),
        {f"module.{key}": tensor for key, tensor in module.state_dict().items()},
    )
    assert_holds(
        save(tmp_path, torch.compile(module, backend="eager").state_dict()),
        {f"_orig_mod.{key}": tensor for key, tensor in module.state_dict().items()},
    )


def test_parametrizations_and_counters_of_batches_are_read(tmp_path):
    lstm = nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    state = nn.ModuleDict({"lstm": lstm, "norm": nn.BatchNorm1d(4), "embed": nn.Embedding(5, 3)}).state_dict()
    assert "lstm.parametrizations.weight_hh_l0.original0" in state
    assert state["norm.num_batches_tracked"].dtype == torch.int64
    assert_holds(save(tmp_path, state), state)


@CONTAINERS
def test_the_same_tensor_in_two_places_is_read_twice(tmp_path, container):
    shared = random_state()
    path = save(tmp_path, {"model": shared, "ema": shared}, **container)
    assert_holds(path, {f"{name}/{key}": tensor for name in ("model", "ema") for key, tensor in shared.items()})


def test_the_folder_of_the_zip_may_have_any_name(tmp_path):
    state = random_state()
    torch.save(state, tmp_path / "mein modell ü.pth")
    assert_holds(tmp_path / "mein modell ü.pth", state)


def test_a_zip_without_checksums_is_read_as_torch_does(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path, random_state())
    finally:
        torch.serialization.set_crc32_options(before)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is not None
    assert_holds(path, random_state())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_that_was_packed_again_is_read(tmp_path, compression):
    records = records_of(save(tmp_path, random_state()))
    assert_holds(write_zip(tmp_path / "again.pt", {"archive/": b"", **records}, compression), random_state())


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int64", "int8", "bool", "complex64"])
def test_numbers_of_a_big_endian_machine_are_turned_around(tmp_path, name):
    """torch.load swaps the storages of such a file, and is the judge here."""
    tensor = torch.arange(-6, 6).to(getattr(torch, name)).view(3, 4)
    records = records_of(save(tmp_path, {"w": tensor, "t": tensor.T[1:]}))
    width = tensor.element_size() // (2 if tensor.is_complex() else 1)
    records["model/byteorder"] = b"big"
    turned = np.frombuffer(records["model/data/0"], np.uint8).reshape(-1, width)[:, ::-1]
    records["model/data/0"] = turned.tobytes()
    path = write_zip(tmp_path / "big.pt", records)
    assert_same(read_tensors(MappedFile(path)).tensors["w"], tensor)
    assert_same(read_tensors(MappedFile(path)).tensors["t"], tensor.T[1:])
    assert torch.equal(torch.load(path, weights_only=True)["w"], tensor)


def test_types_that_numpy_lacks_are_left_out_with_a_note(tmp_path):
    lazy = torch.view_as_complex(torch.ones(2, 2)).conj()
    negative = torch.view_as_complex(torch.ones(2, 2)).conj().imag
    state = {
        "w": torch.ones(2),
        "f": torch.ones(2).to(torch.float8_e4m3fn),
        "lazy": lazy,
        "n": negative,
    }
    for container in (ZIP, LEGACY):
        file = read_tensors(MappedFile(save(tmp_path, state, **container)))
        assert list(file.tensors) == ["w"]
        assert [note.split(" is left out")[0] for note in file.notes] == ["'f'", "'lazy'", "'n'"]
        assert "float8_e4m3fn" in file.notes[0]


def test_lstmconvs_record_is_the_one_of_its_name(tmp_path):
    records = records_of(save(tmp_path, random_state()))
    assert read_tensors(MappedFile(write_zip(tmp_path / "without.pt", records))).record is None
    records["model/extra/lstmconv.json"] = '{"größe": 1}'.encode()
    assert read_tensors(MappedFile(write_zip(tmp_path / "with.pt", records))).record == '{"größe": 1}'


def test_a_legacy_storage_may_be_a_view_of_another(tmp_path):
    """Before 0.4 a persistent id could name a part of a storage: (key, offset, count)."""
    path = save(tmp_path, {"w": torch.arange(6.0)}, **LEGACY)
    content = path.read_bytes()
    whole = b"K\x06Nt"  # the count 6, no view, the end of the persistent id's tuple
    assert content.count(whole) == 1
    content = content.replace(whole, b"K\x06(X\x01\x00\x00\x009K\x02K\x03tt")
    content = content.replace(b"K\x00K\x06\x85", b"K\x00K\x03\x85")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_tensors(MappedFile(path)).tensors["w"], np.array([2, 3, 4], np.float32))
    path.write_bytes(content.replace(b"9K\x02K\x03tt", b"9K\x02K\x05tt"))
    assert "elements 2 to 7 of a storage of 6" in refusal(path)


def test_reading_needs_neither_torch_nor_pickle(tmp_path):
    path = save(tmp_path, random_state())
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['_pickle'] = None\n"
        "from pathlib import Path; from lstmconv.formats.mapped_file import MappedFile\n"
        "from lstmconv.formats.torch.tensors_by_name import read_tensors\n"
        "print(len(read_tensors(MappedFile(Path(sys.argv[1]))).tensors))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "16"


# Files that are something else


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n", "git lfs pull"),
        (b"epoch,loss\n1,0.5\n", "a text file"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"\x1f\x8b\x08" + bytes(100), "gunzip"),
        (struct.pack("<Q", 60) + b'{"w":{"dtype":"F32"' + bytes(100), "safetensors"),
        (b"PK\x05\x06" + bytes(18), "zip without content"),
        (b"\x08\x07\x12\x07pytorch" + bytes(100), "begins with the bytes 08 07"),
        (pickle.dumps({"a": 1}, 2), "plain pickle"),
        (b"\x80", "damaged"),
        (b"PK\x03\x04" + bytes(50), "damaged"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, content, said):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert said in refusal(path)


def test_a_folder_is_named(tmp_path):
    assert "not a file" in refusal(tmp_path)


def test_the_tar_format_of_2016_is_named(tmp_path):
    path = tmp_path / "model.pt"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "a tar file" in refusal(path)


def test_other_zips_are_named(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    assert "without data.pkl" in refusal(path)
    assert "'config.json'" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    assert "a torch.export archive of torch before 2.8" in refusal(path)


@CONTAINERS
def test_objects_of_other_classes_are_passed_over(tmp_path, container):
    """Nothing of them is built: their classes are not even there."""
    extras = {
        "args": Namespace(lr=1, weight=torch.ones(3)),
        "loss": np.float64(1),
        "array": np.ones(2),
        "path": PosixPath("/tmp"),
        "kinds": {PosixPath: 1, Namespace: {"weights": torch.ones(1)}},
        "of a path": {PosixPath("a"): torch.ones(4)},
        "error": ValueError("x", torch.ones(5)),
        "function": os.system,
        "group": [Namespace(a=1), {"b": Namespace(b=torch.ones(2))}],
    }
    path = save(tmp_path, {"w": torch.ones(2), **extras}, **container)
    file = read_tensors(MappedFile(path))
    assert list(file.tensors) == ["w", "kinds/argparse.Namespace/weights"]
    assert file.notes == (
        "objects of other classes (argparse.Namespace, numpy._core.multiarray.scalar, "
        "numpy._core.multiarray._reconstruct and 2 more) are ignored; nothing was executed",
    )
    assert file.unread["group/1/b"].name == "argparse.Namespace"


def test_a_dictionary_with_a_default_is_a_dictionary(tmp_path):
    state = defaultdict(list)
    state["w"] = torch.ones(2)
    assert_holds(save(tmp_path, state), state)


@pytest.mark.filterwarnings("ignore")  # PyTorch calls some of what is saved here old
@CONTAINERS
def test_values_that_are_no_tensors_are_named(tmp_path, container):
    ones = {"w": torch.ones(2)}
    sparse = torch.eye(2).to_sparse()
    for value, said in (
        (
            {"args": Namespace(w=torch.ones(2))},
            "no tensors outside of what other classes and functions would build (arg",
        ),
        ({**ones, "s": sparse}, "sparse tensors (torch._utils._rebuild_sparse_tensor)"),
        ({**ones, "m": torch.ones(2, device="meta")}, "device meta"),
        (torch.ones(2), "a single tensor without a name"),
        ({"epoch": 3}, "holds no tensors"),
        (torch.ones(2).untyped_storage(), "holds no tensors"),
        ({(1, (2,)): ones}, "under a key that is a tuple"),
        ({"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)}, "two tensors have the name 'a/b'"),
    ):
        path = save(tmp_path, value, **container)
        assert said in refusal(path)


@pytest.mark.filterwarnings("ignore")  # PyTorch calls some of what is saved here old
def test_quantised_tensors_are_named(tmp_path):
    tensor = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    assert "holds quantised tensors (torch._utils._rebuild_qtensor)" in refusal(save(tmp_path, {"w": tensor}))
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch cannot quantise")
    module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM}, dtype=torch.qint8)
    for value in (module.state_dict(), module):
        assert "holds quantised tensors" in refusal(save(tmp_path, value))


def test_a_state_dict_by_pickle_alone_is_named(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"w": torch.ones(2)}, 2))
    assert "made without torch.save" in refusal(path)


# Hostile pickles


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def pt(folder, content, records=()):
    """Write a zip with this pickle and 64 bytes of storage."""
    return write_zip(folder / "evil.pt", {"archive/data.pkl": content, "archive/data/0": bytes(64), **dict(records)})


def legacy(folder, content):
    """Write a legacy file with this pickle."""
    path = folder / "evil.pt"
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, facts))
    path.write_bytes(head + content + pickle.dumps([], 2))
    return path


@pytest.mark.parametrize("write", [pt, legacy])
@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_an_evil_pickle_is_refused_and_never_executed(tmp_path, protocol, write):
    witness = tmp_path / "executed"
    for call in (
        Evil(os.system, f"touch {witness}"),
        Evil(eval, f"open({str(witness)!r}, 'w')"),
        Evil(exec, f"open({str(witness)!r}, 'w')"),
        Evil(subprocess.check_output, ["touch", str(witness)]),
        Evil(open, str(witness), "w"),
        Evil(torch.load, str(witness)),
        Evil(torch.hub.load, "evil/evil"),
        Evil(torch.save, 1, str(witness)),
        Evil(getattr, "a", "upper"),
        Evil(getattr, Evil(__import__, "os"), "system"),
        Evil(torch.jit.load, str(witness)),
        Evil(torch.Tensor.set_, 1),
    ):
        text = refusal(write(tmp_path, pickle.dumps({"weight": call}, protocol)))
        assert "nothing was executed" in text
        assert not witness.exists()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


ORDERED = b"ccollections\nOrderedDict\n)R"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\x10tQ"
GOOD = b"\x80\x02}" + text(b"w") + TENSOR + b"(" + STORAGE + b"K\x00K\x04\x85K\x01\x85\x89" + ORDERED + b"tRs."


def test_the_pickle_by_hand_is_a_good_one(tmp_path):
    """The counterpart of the refusals below."""
    assert read_tensors(MappedFile(pt(tmp_path, GOOD))).tensors["w"].shape == (4,)


OPCODES = {
    "INST": b"(" + text(b"true") + b"iposix\nsystem\n.",
    "OBJ": b"(cposix\nsystem\n" + text(b"true") + b"o.",
    "OBJ of a known name": b"(ccollections\nOrderedDict\no.",
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT2": b"\x80\x02\x83\x01\x00.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "PERSID": b"P0\n.",
    "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "POP": b"\x80\x02K\x01K\x020.",
    "DUP": b"\x80\x02K\x012.",
    "LONG4": b"\x80\x02\x8b\x01\x00\x00\x00\x01.",
    "PUT": b"}p0\n.",
    "persistent id of text": b"\x80\x02" + text(b"storage") + b"Q.",
    "persistent id of a module": b"\x80\x02(" + text(b"module") + b"ctorch\nFloatStorage\nNNtQ.",
    "storage without a type": b"\x80\x02(" + text(b"storage") + b"N" + text(b"0") + text(b"cpu") + b"K\x10tQ.",
    "storage of a function": b"\x80\x02(" + text(b"storage") + TENSOR + text(b"0") + text(b"cpu") + b"K\x10tQ.",
    "storage of a number as key": b"\x80\x02(" + text(b"storage") + b"ctorch\nFloatStorage\nK\x00NK\x10tQ.",
    "BUILD on a tensor": GOOD.replace(b"tRs.", b"tR}" + text(b"data") + b"K\x01sbs."),
    "BUILD on a dict": b"\x80\x02}}" + text(b"__class__") + b"K\x01sb.",
    "BUILD on a list": b"\x80\x02]}b.",
    "BUILD on a class": b"\x80\x02ctorch\nTensor\n}b.",
    "BUILD on a function": b"\x80\x02" + TENSOR + b"}" + text(b"__code__") + b"Nsb.",
    "BUILD on a storage": b"\x80\x02" + STORAGE + b"}b.",
    "BUILD by slots": b"\x80\x02" + ORDERED + b"N}" + text(b"x") + b"K\x01s\x86b.",
    "REDUCE of text": b"\x80\x02" + text(b"eval") + b")R.",
    "REDUCE of a type": b"\x80\x02ctorch\nTensor\n)R.",
    "REDUCE of a dtype": b"\x80\x02ctorch\nfloat32\n)R.",
    "REDUCE with a list": b"\x80\x02" + TENSOR + b"]R.",
    "REDUCE with another number of arguments": b"\x80\x02" + TENSOR + b")R.",
    "OrderedDict of text": b"\x80\x02ccollections\nOrderedDict\n" + text(b"ab") + b"\x85R.",
    "OrderedDict of other than pairs": b"\x80\x02ccollections\nOrderedDict\n]K\x01a\x85R.",
    "tensor from another type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n"
    b"(ctorch\nSize\nctorch\nTensor\n]\x85}tR.",
    "tensor from a tensor's type, within itself": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n"
    b"(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n)}tR.",
    "parameter of text": b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + text(b"x") + b"\x89N\x87R.",
    "items of a tuple": b"\x80\x02)K\x01K\x02s.",
    "items of an odd number": b"\x80\x02}(K\x01u.",
    "append to a dict": b"\x80\x02}K\x01a.",
    "items of a set on a list": b"\x80\x04](K\x01\x90.",
    "names with dots": b"\x80\x04" + text(b"torch._utils") + text(b"_rebuild_tensor_v2.__globals__") + b"\x93.",
    "names with dots, in lines": b"\x80\x02ccollections\nOrderedDict.__init__\n.",
    "names of numbers": b"\x80\x04K\x01K\x02\x93.",
    "names with a line in them": b"\x80\x04" + text(b"os\nx") + text(b"system\x1b[31m") + b"\x93.",
    "a name of a megabyte": b"\x80\x02c" + b"x" * 1_000_000 + b"\nsystem\n.",
    "quantised storage": b"\x80\x02ctorch\nQInt8Storage\n.",
    "memo that is not there": b"\x80\x02h\x05.",
    "empty stack": b"\x80\x02.",
    "two values": b"\x80\x02}}.",
    "open mark": b"\x80\x02(}.",
    "no mark": b"\x80\x02t.",
    "no end": b"\x80\x02}",
    "unknown opcode": b"\x80\x02\xff.",
    "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "text of 2**63 bytes": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "bytes of 2**62": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.",
    "bytearray of 2**62": b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"abc.",
    "frame of 2**62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
    "number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "no number": b"I" + b"x" * 1_000_000 + b"\n.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a list twice in itself": b"\x80\x02]q\x00h\x00ah\x00a.",
    "a dict in itself": b"\x80\x02}q\x00" + text(b"me") + b"h\x00s.",
    "a dict as its own key": b"\x80\x02}q\x00h\x00h\x00s.",
    "an OrderedDict of itself": b"\x80\x02ccollections\nOrderedDict\n]q\x00h\x00h\x00\x86a\x85R.",
}


@pytest.mark.parametrize("write", [pt, legacy])
@pytest.mark.parametrize("name", OPCODES)
def test_pickles_that_no_state_dict_has_are_refused(tmp_path, name, write):
    said = refusal(write(tmp_path, OPCODES[name]))
    assert not re.search("TypeError|AttributeError|RecursionError|MemoryError", said)
    for word, expected in (("BUILD", "sets the state"), (" in itself", "inside themselves")):
        assert word not in name or expected in said


def rebuild(offset, size, stride, count=16, key="0"):
    """Write a pickle of one tensor over the 64 bytes of data/0."""

    class Tensor:
        def __reduce__(self):
            return (torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {}))

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, key, "cpu", count) if isinstance(value, Storage) else None

    out = io.BytesIO()
    Pickler(out, 2).dump({"w": Tensor()})
    return out.getvalue()


@pytest.mark.parametrize(
    ("offset", "size", "stride", "count"),
    [
        (0, (17,), (1,), 16),
        (8, (3, 4), (4, 1), 16),
        (16, (), (), 16),
        (-1, (4,), (1,), 16),
        (4, (4,), (-1,), 16),
        (0, (-4,), (1,), 16),
        (0, (-1, -4), (1, 1), 16),
        (0, (True,), (1,), 16),
        (0, (4.0,), (1,), 16),
        (0.0, (4,), (1,), 16),
        (None, (4,), (1,), 16),
        (0, [4], (1,), 16),
        (0, 4, 1, 16),
        (0, (1 << 40,), (1,), 16),
        (0, (2, 2), (1 << 62, 1), 16),
        (0, (4,), (1,), 17),
        (0, (4,), (1,), 15),
        (0, (4,), (1,), -16),
        (0, (4,), (1,), 1 << 70),
        (0, (4,), (1,), 1 << 2000),
        (1 << 2000, (4,), (1,), 16),
        (0, (1 << 70,), (0,), 16),
        (0, (1 << 40,), (0,), 16),
        (0, (1 << 20, 1 << 20), (0, 0), 16),
        (0, (4, 4), (1,), 16),
        (0, (1,) * 65, (1,) * 65, 16),
        (0, (1,) * 100_000, (1,) * 100_000, 16),
    ],
)
def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path, offset, size, stride, count):
    assert refusal(pt(tmp_path, rebuild(offset, size, stride, count))).endswith("the file is damaged")


def test_an_empty_tensor_beyond_what_numpy_can_describe_is_refused(tmp_path):
    refusal(pt(tmp_path, rebuild(0, (0, 1 << 62), (1, 1))))


def test_a_tensor_within_its_storage_is_read(tmp_path):
    """The counterpart of the refusals above: the pickle they are made with is a good one."""
    assert read_tensors(MappedFile(pt(tmp_path, rebuild(4, (3, 4), (4, 1))))).tensors["w"].shape == (3, 4)


@pytest.mark.parametrize("key", ["1", "../data/0", "..", "", "0\n", "0" * 1000])
def test_a_storage_that_is_not_there_is_refused(tmp_path, key):
    refusal(pt(tmp_path, rebuild(0, (4,), (1,), key=key)))


# Hostile containers


def test_records_that_lead_out_or_stand_twice_are_refused(tmp_path):
    for name in ("archive/../../etc/passwd", "/etc/passwd", "archive\\..\\x"):
        assert "leads out of it" in refusal(pt(tmp_path, GOOD, {name: b"x"}))
    path = pt(tmp_path, GOOD)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/0", bytes(64))
    assert "two members of one name" in refusal(path)
    assert "2 folders" in refusal(pt(tmp_path, GOOD, {"other/data.pkl": GOOD}))


def test_facts_of_the_zip_that_are_unknown_are_refused(tmp_path):
    assert "version '99'" in refusal(pt(tmp_path, GOOD, {"archive/version": b"99\n"}))
    assert "version" in refusal(pt(tmp_path, GOOD, {"archive/version": b"9" * 100_000}))
    assert "byte order 'middle'" in refusal(pt(tmp_path, GOOD, {"archive/byteorder": b"middle"}))
    assert "damaged" in refusal(pt(tmp_path, GOOD, {"archive/extra/lstmconv.json": b"\xff"}))


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (b"PK\x01\x02", 42, 0),  # where the record is: where another one is
        (b"PK\x01\x02", 42, 1),
        (b"PK\x01\x02", 42, 1 << 31),
        (b"PK\x01\x02", 20, 1 << 30),  # its size in the file
        (b"PK\x01\x02", 24, 1 << 30),  # its size
        (b"PK\x01\x02", 8, 1),  # encrypted
        (b"PK\x03\x04", 6, 1),
        (b"PK\x03\x04", 26, 60_000),  # the length of its name
        (b"PK\x03\x04", 0, 0),
    ],
)
def test_a_record_that_is_not_where_the_directory_says_is_refused(tmp_path, signature, offset, value):
    path = pt(tmp_path, GOOD)
    content = bytearray(path.read_bytes())
    start = content.rindex(signature) + offset  # that of data/0, the last one
    width = 4 if offset in (0, 20, 24, 42) else 2
    content[start : start + width] = value.to_bytes(width, "little")
    path.write_bytes(content)
    refusal(path)


def test_a_record_that_is_cut_off_is_refused(tmp_path):
    path = pt(tmp_path, GOOD)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02") + 20
    content[start : start + 8] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(content)
    assert "'data/0' is cut off" in refusal(path)


def test_a_record_that_inflates_too_far_is_refused(tmp_path, monkeypatch):
    zeros = {"archive/data.pkl": GOOD.replace(b"K\x10tQ", b"J\x00\x00\x80\x00tQ"), "archive/data/0": bytes(32 << 20)}
    path = write_zip(tmp_path / "zeros.pt", zeros, zipfile.ZIP_DEFLATED)
    assert read_tensors(MappedFile(path)).tensors["w"].shape == (4,)
    monkeypatch.setattr(limits, "_FREE_BYTES", 1 << 20)
    monkeypatch.setenv("LSTMCONV_INFLATION", "10")
    assert "would inflate" in refusal(path)


def test_a_record_that_inflates_further_than_it_says_costs_no_memory(tmp_path):
    path = write_zip(
        tmp_path / "bomb.pt", {"archive/data.pkl": GOOD, "archive/data/0": bytes(64 << 20)}, zipfile.ZIP_DEFLATED
    )
    content = bytearray(path.read_bytes())
    start = content.rindex(b"PK\x01\x02") + 24
    content[start : start + 4] = (64).to_bytes(4, "little")
    path.write_bytes(content)
    assert peak_of(path) < 8_000_000


def test_a_pickle_that_is_too_long_is_refused(tmp_path, monkeypatch):
    path = pt(tmp_path, GOOD)
    monkeypatch.setenv("LSTMCONV_PICKLE_BYTES", "100")
    assert "expected at most 100" in refusal(path)
    monkeypatch.undo()
    monkeypatch.setenv("LSTMCONV_PICKLE_OPCODES", "20")
    assert "over 20 opcodes" in refusal(path)


def test_other_compressions_are_refused_by_name(tmp_path):
    path = write_zip(tmp_path / "m.pt", {"archive/data.pkl": GOOD, "archive/data/0": bytes(64)}, zipfile.ZIP_BZIP2)
    assert "compressed by method 12" in refusal(path)


def test_legacy_storages_that_do_not_match_the_pickle_are_refused(tmp_path):
    path = save(tmp_path, {"w": torch.arange(6.0)}, **LEGACY)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert "cut off" in refusal(path)
    path.write_bytes(content[:-26])
    assert "a storage of no elements, expected 6" in refusal(path)
    for count in (5, 7, -1, 1 << 40):
        path.write_bytes(content[:-32] + struct.pack("<q", count) + content[-24:])
        assert f"a storage of {count:,} elements, expected 6" in refusal(path)
    path.write_bytes(legacy(tmp_path, GOOD).read_bytes())
    assert "lists 0 storages where its tensors have 1" in refusal(path)
    true = content.index(b"\x88", content.index(b"little_endian"))
    path.write_bytes(content[:true] + b"\x89" + content[true + 1 :])
    assert "big-endian" in refusal(path)


# Time and memory


def peak_of(path):
    """Return the most memory in bytes that reading a bad file took."""
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def doubled(levels, first, link):
    """Write a pickle in which each level holds the one before twice."""
    out = [b"\x80\x02(", first, b"q\x00"]
    out += [link(b"h" + bytes([level - 1])) + b"q" + bytes([level]) for level in range(1, levels)]
    return b"".join([*out, b"t."])


BOMBS = {
    "lists": doubled(60, b"]", lambda below: b"](" + below + below + b"e"),
    "tuples": doubled(60, b")", lambda below: below + below + b"\x86"),
    "dicts": doubled(60, b"}", lambda below: b"}(" + text(b"a") + below + text(b"b") + below + b"u"),
    "tuples as keys": doubled(60, b")", lambda below: below + below + b"\x86")[:-2] + b"}h\x3bNst.",
    "OrderedDicts": doubled(60, b"}", lambda below: b"ccollections\nOrderedDict\n" + below + b"\x85R"),
    "long keys": doubled(60, b"}", lambda below: b"}" + text(b"k" * 5000) + below + b"s"),
    "nested lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "nested tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "marks": b"\x80\x02" + b"(" * 200_000 + b".",
    "a memo index of 2**32": b"\x80\x02}r\xff\xff\xff\xff.",
    "sizes from one list": b"\x80\x02](" + b"K\x01" * 50_000 + b"eq\x00" + b"ctorch\nSize\nh\x00\x85R" * 5000 + b".",
    "keys of equal hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (index * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for index in range(20_000))
    + b"u.",
    "bytearray of 2**40": b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_small_pickle_costs_little_memory_and_time(tmp_path, content):
    path = pt(tmp_path, content)
    start = time.perf_counter()
    assert peak_of(path) < 64_000_000
    assert time.perf_counter() - start < 20


def test_the_walk_over_containers_is_bounded_even_with_tensors_in_them(tmp_path):
    nested = {"w": torch.ones(2)}
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    assert "containers nested too deeply" in refusal(save(tmp_path, nested))
    deep = [torch.ones(2)]
    for _ in range(120):
        deep = [deep]
    assert "containers nested too deeply" in refusal(save(tmp_path, {"history": [0.5] * 1000, "deep": deep}))
    long = {"w": torch.ones(2)}
    for _ in range(40):
        long = {"k" * 100: long}
    assert "a key of over 1,024 characters" in refusal(save(tmp_path, long))


def test_the_number_of_tensors_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTMCONV_TENSORS", "15")
    assert "over 15 tensors" in refusal(save(tmp_path, random_state()))


@pytest.mark.parametrize("part", ["zip", "legacy", "pickle"])
def test_damage_anywhere_is_refused_or_read_and_nothing_else_happens(tmp_path, part):
    """Flip, cut and blank bytes with a fixed seed; "pickle" changes data.pkl alone, with a good zip around it."""
    torch.manual_seed(0)
    state = {"lstm": nn.LSTM(2, 1).state_dict(), "p": nn.Parameter(torch.rand(2).bfloat16()), "epoch": 3}
    content = save(tmp_path, state, **(LEGACY if part == "legacy" else ZIP)).read_bytes()
    records = records_of(tmp_path / "model.pt") if part != "legacy" else {}
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.pt"
    refused = []
    start = time.perf_counter()
    for _ in range(400):
        damaged = bytearray(records["model/data.pkl"] if part == "pickle" else content)
        for _ in range(int(random.integers(1, 4))):
            damaged[int(random.integers(len(damaged)))] = int(random.integers(256))
        if random.random() < 0.2:
            damaged = damaged[: int(random.integers(len(damaged)))]
        if part == "pickle":
            write_zip(path, {**records, "model/data.pkl": bytes(damaged)})
        else:
            path.write_bytes(damaged)
        try:
            for array in read_tensors(MappedFile(path)).tensors.values():
                array.tobytes()
        except UnreadableFileError as error:
            refused.append(str(error))
    assert len(refused) > 150
    assert not [text for text in refused if not text.isprintable() or re.search("TypeError|AttributeError", text)]
    assert time.perf_counter() - start < 60
