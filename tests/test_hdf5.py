"""Hostile and damaged files: nothing is followed, nothing is unpickled, and a crash or a hang costs one message."""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

import lstmconv
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError
from lstmconv.formats.hdf5 import confinement, nameless_file, walk
from lstmconv.formats.hdf5 import tree as hdf5
from lstmconv.formats.hdf5.tree import Group, StoredArray, read_tree
from lstmconv.formats.mapped_file import MappedFile
from tests._cases import GOLDEN, assert_direction, fused, random, write_legacy, write_lstm

NO_FORK = confinement._NO_FORK

SECRET = b"root:x:0:0"


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the trial read fork, also in a pytest-xdist worker and where another test has imported jax."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(confinement, "_NO_FORK", set())


@pytest.fixture
def second_thread() -> Iterator[None]:
    """Keep a second Python thread alive, so that the trial read takes a new process."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield
    stop.set()
    thread.join()


def legacy_with(path: Path, change: object) -> Path:
    """Write a good legacy file of one LSTM of 3 features and 5 units, then change it as an attacker would."""
    write_lstm(path)
    with h5py.File(path, "r+") as file:
        change(file, file["model_weights/lstm_1/lstm_1"])
    return path


def refused(path: Path) -> str:
    with pytest.raises(LstmconvError) as caught:
        lstmconv.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused_as_unreadable(path: Path) -> str:
    message = refused(path)
    with pytest.raises(UnreadableFileError):
        lstmconv.load(path)
    return message


def outcomes_in_a_process_of_its_own(paths: list[Path]) -> list[str]:
    """Load each file in a fresh interpreter; return ``read`` or ``refused`` for each."""
    program = (
        "import sys, lstmconv\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        lstmconv.load(path)\n"
        "        print('read')\n"
        "    except lstmconv.LstmconvError:\n"
        "        print('refused')\n"
    )
    command = [sys.executable, "-c", program, *map(str, paths)]
    environment = {**os.environ, "LSTMCONV_HDF5_SECONDS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


pytestmark = pytest.mark.usefixtures("one_thread")


# Links and storage elsewhere


def test_a_soft_link_in_place_of_an_array_is_not_followed(tmp_path: Path):
    def change(file: h5py.File, group: h5py.Group) -> None:
        file["elsewhere"] = group["kernel:0"][()]
        del group["kernel:0"]
        group["kernel:0"] = h5py.SoftLink("/elsewhere")

    message = refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))
    assert "lstm_1/kernel:0: a soft link; not followed" in message


def test_an_external_link_in_place_of_an_array_is_not_followed(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = random((3, 20))

    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        group["kernel:0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "kernel")

    assert "an external link; not followed" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_an_external_link_in_place_of_a_layer_is_not_followed(tmp_path: Path):
    write_lstm(tmp_path / "other.h5")

    def change(file: h5py.File, group: h5py.Group) -> None:
        del file["model_weights/lstm_1"]
        file["model_weights/lstm_1"] = h5py.ExternalLink("other.h5", "model_weights/lstm_1")

    assert "lstm_1" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_an_array_that_lies_in_another_file_is_not_read(tmp_path: Path):
    (tmp_path / "passwd").write_bytes(SECRET * 100)

    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset("kernel:0", (3, 20), "f4", external=[(str(tmp_path / "passwd"), 0, 240)])

    assert "stored in another file (external)" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_a_virtual_dataset_is_not_read(tmp_path: Path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = random((3, 20))

    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        layout = h5py.VirtualLayout((3, 20), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", (3, 20))
        group.create_virtual_dataset("kernel:0", layout)

    assert "a virtual dataset" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_a_link_that_nobody_asks_for_does_no_harm(tmp_path: Path):
    def change(file: h5py.File, group: h5py.Group) -> None:
        file["dangling"] = h5py.SoftLink("/nowhere")

    assert [layer.name for layer in lstmconv.load(legacy_with(tmp_path / "a.h5", change)).layers] == ["lstm_1"]


# Structure


def test_a_group_that_contains_itself_is_refused(tmp_path: Path):
    def change(file: h5py.File, group: h5py.Group) -> None:
        group["again"] = file["model_weights"]

    assert "contains itself" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_groups_of_seventy_levels_are_refused(tmp_path: Path):
    def change(file: h5py.File, group: h5py.Group) -> None:
        file.create_group("deep" + "/deep" * 70)

    assert "deeper than 64 levels" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_more_objects_than_any_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LSTMCONV_HDF5_OBJECTS", "5")
    assert "more than 5 objects" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", lambda *_: None))


def test_objects_reached_by_many_hard_links_are_counted_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Twenty levels of two links each would be a million visits: the count of visits ends it."""
    monkeypatch.setenv("LSTMCONV_HDF5_OBJECTS", "1000")

    def change(file: h5py.File, group: h5py.Group) -> None:
        inner = file.create_group("level_0")
        for level in range(1, 20):
            outer = file.create_group(f"level_{level}")
            outer["a"] = inner
            outer["b"] = inner
            inner = outer

    assert "more than 1,000 objects" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_attributes_larger_than_any_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LSTMCONV_ATTRIBUTE_BYTES", str(1 << 20))

    def change(file: h5py.File, group: h5py.Group) -> None:
        for index in range(40):
            file.attrs[f"large_{index}"] = np.zeros(60000, np.uint8)

    assert (
        "attributes take more than 1,048,576 bytes; if you trust the file, set LSTMCONV_ATTRIBUTE_BYTES"
        in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))
    )


@pytest.mark.parametrize("chunks", [None, (1024, 1024)], ids=["contiguous", "chunked"])
def test_an_array_that_claims_far_more_than_it_stores_is_refused_at_once(tmp_path: Path, chunks: tuple | None):
    """64 GiB claimed, nothing stored; reading it would fill the memory with zeros."""

    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        group.create_dataset("kernel:0", (1 << 20, 1 << 14), "f4", chunks=chunks)

    path = legacy_with(tmp_path / "a.h5", change)
    assert path.stat().st_size < 100_000
    start = time.monotonic()
    assert "claims 68,719,476,736 bytes and stores 0" in refused_as_unreadable(path)
    assert time.monotonic() - start < 5


# Values that are no weights


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 20), h5py.string_dtype()),
        np.zeros((3, 20), h5py.ref_dtype),
        np.zeros((3, 20), [("real", "f4"), ("other", "f4")]),
        np.zeros((3, 20), "c8"),
        np.zeros((3, 20), "S4"),
        np.zeros((3, 20), "V3"),
        np.zeros((3, 20), np.longdouble),
    ],
    ids=["strings", "references", "records", "complex", "bytes", "opaque", "long double"],
)
def test_an_array_that_is_no_real_number_array_is_refused(tmp_path: Path, values: np.ndarray):
    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        if values.dtype.hasobject:
            group.create_dataset("kernel:0", values.shape, values.dtype)
        else:
            group["kernel:0"] = values

    assert "not a number" in refused_as_unreadable(legacy_with(tmp_path / "a.h5", change))


def test_integer_weights_are_not_taken_for_weights(tmp_path: Path):
    """Quantised int8 arrays mean nothing without their scale."""

    def change(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        group["kernel:0"] = np.zeros((3, 20), np.int8)

    assert "int8, expected floating-point weights" in refused(legacy_with(tmp_path / "a.h5", change))


def test_a_scalar_or_empty_dataset_is_refused(tmp_path: Path):
    def empty(file: h5py.File, group: h5py.Group) -> None:
        del group["kernel:0"]
        group["kernel:0"] = h5py.Empty("f4")

    def scalar(file: h5py.File, group: h5py.Group) -> None:
        del group["recurrent_kernel:0"]
        group["recurrent_kernel:0"] = 1.0

    assert "empty" in refused(legacy_with(tmp_path / "a.h5", empty))
    assert "lstm_1" in refused(legacy_with(tmp_path / "b.h5", scalar))


# Damaged files


def test_a_truncated_file_is_called_damaged_wherever_it_is_cut(tmp_path: Path):
    write_lstm(tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    cut = tmp_path / "cut.h5"
    for length in (512, 800, len(whole) // 3, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        cut.write_bytes(whole[:length])
        message = refused_as_unreadable(cut)
        assert "cut.h5" in message


def test_files_with_flipped_bits_read_or_are_refused(tmp_path: Path):
    """Nothing but an LstmconvError may come out, whatever sixteen bytes of the structure say.

    Some of these files hang the library; a process of its own ends where the time limit fails.
    """
    write_lstm(tmp_path / "whole.h5")
    whole = np.frombuffer((tmp_path / "whole.h5").read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for index in range(60):
        damaged = whole.copy()
        damaged[generator.integers(0, 4000, 16)] = generator.integers(0, 256, 16)
        (tmp_path / f"damaged_{index}.h5").write_bytes(damaged.tobytes())
    outcomes = outcomes_in_a_process_of_its_own(sorted(tmp_path.glob("damaged_*.h5")))
    assert len(outcomes) == 60
    assert "refused" in outcomes


LOOKALIKES = {
    "an empty file": (b"", "the file is empty"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "git lfs pull"),
    "a symbolic link as text": (b"/home/someone/model.h5", "symbolic link"),
    "text": (b"epoch;loss\n1;0.5\n2;0.25\n", "expected HDF5"),
    "a web page": (b"<!DOCTYPE html>\n<html><body>404</body></html>\n", "an HTML or XML page"),
    "a TensorFlow checkpoint": (b"\x00\x00\x12\x08\x01\x12\x0ccheckpoint", "begins with the bytes 00 00 12 08"),
    "half a signature": (hdf5.SIGNATURE[:5], "expected HDF5"),
    "a signature alone": (hdf5.SIGNATURE, "damaged HDF5 file"),
    "JSON that is no config": (b'{"loss": 1}', "without weight_map"),
    "a list in JSON": (b"[1, 2]", "expected HDF5"),
    "JSON cut off": (b'{"weight_map": {', "damaged JSON"),
    "JSON nested without end": (b'{"a":' * 100_000, "damaged JSON"),
    "a config without its weights": (b'{"class_name": "Sequential", "config": []}', "config"),
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_what_only_looks_like_a_checkpoint_is_named(tmp_path: Path, kind: str):
    content, expected = LOOKALIKES[kind]
    (tmp_path / "model.h5").write_bytes(content)
    message = refused_as_unreadable(tmp_path / "model.h5")
    assert message.startswith("model.h5")
    assert expected in message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_never_loaded(tmp_path: Path, protocol: int):
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "model.h5").write_bytes(pickle.dumps(Bomb(), protocol))
    expected = "nothing was executed" if protocol == 2 else "a Python pickle, which is never loaded"
    assert expected in refused_as_unreadable(tmp_path / "model.h5")  # Files of PyTorch begin as protocol 2 does.
    assert not (tmp_path / "exploded").exists()


def test_a_missing_file_and_a_foreign_folder_are_named(tmp_path: Path):
    assert "no such file" in refused_as_unreadable(tmp_path / "missing.h5")
    assert "a folder without model.weights.h5" in refused_as_unreadable(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert "a SavedModel without variables/variables.index" in refused_as_unreadable(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_one_message(tmp_path: Path):
    write_lstm(tmp_path / "a.h5")
    (tmp_path / "a.h5").chmod(0)
    assert "cannot be read" in refused_as_unreadable(tmp_path / "a.h5")


# Zip files


def test_pickled_weights_in_a_keras_file_are_never_loaded(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.npz", b"")
    assert "pickled (model.weights.npz), which is never loaded" in refused_as_unreadable(tmp_path / "a.keras")


def test_a_pytorch_file_and_a_foreign_zip_are_named(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert "a damaged PyTorch file" in refused_as_unreadable(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as archive:
        archive.writestr("readme.txt", b"")
    assert "a zip without model.weights.h5" in refused_as_unreadable(tmp_path / "b.keras")


def test_a_zip_bomb_is_refused(tmp_path: Path):
    """70 MB of zeros deflate to a thousandth; a model's weights do not."""
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(70 << 20))
    assert "would inflate from" in refused_as_unreadable(tmp_path / "a.keras")


def test_a_truncated_keras_file_is_called_damaged(tmp_path: Path):
    whole = (GOLDEN / "keras-3.15.1" / "lstm.keras").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.keras").write_bytes(whole[:length])
        assert "cut.keras" in refused_as_unreadable(tmp_path / "cut.keras")


def test_a_keras_file_whose_body_is_damaged_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential", "config": []}')
        archive.writestr("model.weights.h5", hdf5.SIGNATURE + bytes(1000))
    assert "damaged HDF5 file" in refused_as_unreadable(tmp_path / "a.keras")


# Crashes and hangs of the HDF5 library


TESTS = os.getpid()


def crash(*_: object) -> Group:
    assert os.getpid() != TESTS, "not in a child"
    faulthandler.disable()  # pytest's would print where the child was.
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("the signal ended the child")


def test_a_crash_of_the_library_in_the_forked_child_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_lstm(tmp_path / "a.h5")
    monkeypatch.setattr(confinement, "describe", crash)
    assert "a.h5: the HDF5 library crashes on it (signal 11)" in refused(tmp_path / "a.h5")


@pytest.mark.parametrize("hang", ["sleep", "spin"])
def test_a_hang_of_the_library_in_the_forked_child_ends_at_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: str
):
    write_lstm(tmp_path / "a.h5")
    # Waiting has three times as long as computing, which a process is stopped in by its processor time.
    monkeypatch.setenv("LSTMCONV_HDF5_SECONDS", "0" if hang == "sleep" else "1")
    monkeypatch.setattr(confinement, "describe", {"sleep": sleep, "spin": spin}[hang])
    start = time.monotonic()
    assert "the HDF5 library hangs on it" in refused(tmp_path / "a.h5")
    assert time.monotonic() - start < 10


def spin(*_: object) -> Group:
    assert os.getpid() != TESTS, "not in a child"
    while True:
        pass


def sleep(*_: object) -> Group:
    assert os.getpid() != TESTS, "not in a child"
    time.sleep(60)
    raise AssertionError("the child was to be ended")


def servers() -> list[psutil.Process]:
    """Return the processes of this one that fork for it."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if "fork_server" in " ".join(child.cmdline())]


def end_servers() -> None:
    for server in servers():
        server.kill()
        server.wait()


def fake_library(folder: Path, commands: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a library that does something else in the place of h5py, for processes that are started from now on."""
    (folder / "library").mkdir()
    (folder / "library" / "h5py.py").write_text(f"import os, signal, time\n\ndef __getattr__(name):\n    {commands}\n")
    monkeypatch.syspath_prepend(folder / "library")


@pytest.fixture
def several_threads(one_thread: None, second_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo ``one_thread``: the second thread counts."""
    monkeypatch.setattr(threading, "active_count", lambda: len(threading.enumerate()))


@pytest.fixture(params=["forking", "without fork"])
def elsewhere(request: pytest.FixtureRequest, several_threads: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Walk files in a process started for the test, on a system that forks and on one that does not."""
    if request.param == "without fork":
        monkeypatch.delattr(os, "fork")
    end_servers()
    yield
    end_servers()


@pytest.mark.usefixtures("elsewhere")
def test_a_crash_beside_a_second_thread_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_lstm(tmp_path / "a.h5")
    fake_library(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)", monkeypatch)
    assert "the HDF5 library crashes on it (signal 11)" in refused(tmp_path / "a.h5")


@pytest.mark.usefixtures("elsewhere")
def test_a_hang_beside_a_second_thread_ends_at_the_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_lstm(tmp_path / "a.h5")
    monkeypatch.setenv("LSTMCONV_HDF5_SECONDS", "1")
    fake_library(tmp_path, "time.sleep(60)", monkeypatch)
    start = time.monotonic()
    assert "the HDF5 library hangs on it" in refused(tmp_path / "a.h5")
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("several_threads")
def test_files_beside_a_second_thread_share_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Limits are those of the time of each call, and a path is relative to the folder of that time."""
    arrays = write_lstm(tmp_path / "a.h5")
    lstmconv.load(tmp_path / "a.h5")
    (server,) = servers()
    monkeypatch.setenv("LSTMCONV_HDF5_OBJECTS", "2")
    assert "LSTMCONV_HDF5_OBJECTS" in refused(tmp_path / "a.h5")
    monkeypatch.delenv("LSTMCONV_HDF5_OBJECTS")
    monkeypatch.chdir(tmp_path)
    assert_direction(lstmconv.load("a.h5").layers[0].forward, arrays)
    assert servers() == [server]


@pytest.mark.usefixtures("several_threads")
def test_a_server_that_has_ended_is_replaced(tmp_path: Path):
    arrays = write_lstm(tmp_path / "a.h5")
    lstmconv.load(tmp_path / "a.h5")
    end_servers()
    assert_direction(lstmconv.load(tmp_path / "a.h5").layers[0].forward, arrays)


@pytest.mark.usefixtures("several_threads")
def test_a_forked_process_has_a_server_of_its_own(tmp_path: Path):
    """Two processes that ask by one connection would get each other's answers."""
    arrays = write_lstm(tmp_path / "a.h5")
    lstmconv.load(tmp_path / "a.h5")
    before = servers()
    child = os.fork()
    if child == 0:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        lstmconv.load(tmp_path / "a.h5")
        os._exit(0 if len(servers()) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert_direction(lstmconv.load(tmp_path / "a.h5").layers[0].forward, arrays)
    assert servers() == before


@pytest.mark.parametrize("library", ["jax", "tensorflow"])
def test_a_library_that_forbids_forking_is_not_forked(
    tmp_path: Path, library: str, one_thread: None, monkeypatch: pytest.MonkeyPatch
):
    """Their own threads hold locks that a forked child would wait for."""
    monkeypatch.setattr(confinement, "_NO_FORK", NO_FORK)
    monkeypatch.setitem(sys.modules, library, sys)
    monkeypatch.setattr(confinement, "in_fork", lambda *_: pytest.fail("forked"))
    arrays = write_lstm(tmp_path / "a.h5")
    assert_direction(lstmconv.load(tmp_path / "a.h5").layers[0].forward, arrays)


@pytest.mark.usefixtures("several_threads")
def test_good_files_read_beside_a_second_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A whole file by its path, and the body of a .keras file through a pipe."""
    monkeypatch.setattr(confinement, "in_fork", lambda *_: pytest.fail("forked beside a second thread"))
    arrays = write_lstm(tmp_path / "a.h5")
    assert_direction(lstmconv.load(tmp_path / "a.h5").layers[0].forward, arrays)
    assert [layer.name for layer in lstmconv.load(GOLDEN / "keras-3.15.1" / "lstm.keras").layers] == ["encoder"]


def test_the_new_process_reads_the_file_and_not_just_ends(tmp_path: Path):
    write_lstm(tmp_path / "a.h5")
    content = np.fromfile(tmp_path / "a.h5", np.uint8)
    for given, says in (
        (tmp_path / "a.h5", b'"kernel:0"'),
        (content, b'"kernel:0"'),
        (content[:3000], b"error"),
    ):
        with (tmp_path / "answer").open("w+b") as answer:
            assert confinement._in_new_process(given, "a.h5", answer, 60.0) == 0
            answer.seek(0)
            assert says in answer.read()


@pytest.mark.parametrize(
    "name", ["hdf5_bitflip_13_94.h5", "hdf5_bitflip_1_13.h5", "hdf5_bitflip_1_27.h5", "hdf5_bitflip_6_31.h5"]
)
def test_a_file_that_crashes_or_hangs_the_library_ends_neither_the_program_nor_its_patience(
    hostile_files: Path, name: str
):
    """Where the broken part is one that Keras files do not need, the rest may still be read."""
    assert outcomes_in_a_process_of_its_own([hostile_files / name]) in (["read"], ["refused"])


# What a good file gives


@pytest.mark.parametrize("chunks", [(7, 4), (1, 28), (13, 28), (3, 5)])
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "shuffle": True}], ids=["plain", "deflated"])
def test_chunked_numbers_are_put_together_slab_by_slab(one_thread, tmp_path: Path, monkeypatch, chunks, options):
    """Slabs of a few rows, whatever the chunks: the library's numbers bit for bit, each once."""
    monkeypatch.setattr(walk, "_SLAB_BYTES", 300)
    monkeypatch.setattr(nameless_file, "_LARGE_BYTES", 0)
    stored = {name: np.random.default_rng(seed).random((13, 28), np.float32) for seed, name in enumerate("ab")}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in stored.items():
            file.create_dataset(name, data=values, chunks=chunks, **options)
        file.create_dataset("one", data=np.float64(7))
    tree = read_tree(MappedFile(tmp_path / "a.h5"), "a.h5")
    for name, values in stored.items():
        array = tree.children[name]
        assert isinstance(array, StoredArray)
        assert array.load().tobytes() == values.tobytes()
    assert tree.children["one"].load() == 7  # type: ignore[union-attr]


def test_arrays_are_read_only_views_into_the_file(tmp_path: Path):
    write_lstm(tmp_path / "a.h5")
    kernel = read_tree(MappedFile(tmp_path / "a.h5"), "a.h5").find("model_weights/lstm_1/lstm_1/kernel:0")
    assert isinstance(kernel, StoredArray)
    values = kernel.load()
    owner: object = values
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1


def test_a_user_block_before_the_file_shifts_no_array(tmp_path: Path):
    """HDF5 files may begin at byte 512, 1024, ...: everything before belongs to somebody else."""
    write_lstm(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as target, h5py.File(tmp_path / "plain.h5") as source:
        for name in source:
            source.copy(name, target)
        target.attrs.update(source.attrs)
    with (tmp_path / "a.h5").open("r+b") as file:
        file.write(b"#!/usr/bin/env somebody\n")
    assert_direction(lstmconv.load(tmp_path / "a.h5").layers[0].forward, fused(3, 5))


def test_a_tree_finds_groups_and_arrays_by_relative_paths(tmp_path: Path):
    write_legacy(tmp_path / "a.h5", {"lstm_1": {"a/b/kernel:0": random((2, 2))}})
    tree = read_tree(MappedFile(tmp_path / "a.h5"), "a.h5")
    assert tree.text("keras_version") == "2.4.0"
    assert tree.strings("layer_names") == ["lstm_1"]
    assert isinstance(tree.find("lstm_1/a/b/kernel:0"), StoredArray)
    assert tree.find("lstm_1/a/c") is None
    assert tree.group("lstm_1/a/b/kernel:0") is None


def test_an_unsupported_model_is_not_called_unreadable(tmp_path: Path):
    write_legacy(tmp_path / "a.h5", {"dense": {"dense/kernel:0": random((3, 2)), "dense/bias:0": random((2,))}})
    with pytest.raises(UnsupportedModelError, match="without a recurrent layer"):
        lstmconv.load(tmp_path / "a.h5")
