"""SavedModels and checkpoints that genuine TensorFlow wrote, each against the .h5 of the same model and its outputs."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import lstmconv
from lstmconv.errors import LstmconvError, UnreadableFileError, UnsupportedModelError

ARCHIVES = sorted((Path(__file__).parent / "golden" / "tensorflow").glob("tf-*.zip"))
WHOLE = ("chain", "nested", "kinds", "stateful")

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.fixture(scope="session", params=ARCHIVES, ids=[path.stem for path in ARCHIVES])
def folder(request, tmp_path_factory) -> Path:
    """Return the folder of one TensorFlow's files."""
    place = tmp_path_factory.mktemp(request.param.stem)
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(place)
    return place


def arrays(model) -> dict[str, np.ndarray]:
    """Return all arrays of a model by the calls' names and their place in the layer's record."""
    found: dict[str, np.ndarray] = {}

    def visit(path: str, value: object) -> None:
        if isinstance(value, np.ndarray):
            found[path] = value
        elif isinstance(value, tuple | list):
            for index, each in enumerate(value):
                visit(f"{path}[{index}]", each)
        elif hasattr(value, "__dataclass_fields__"):
            for name in value.__dataclass_fields__:
                visit(f"{path}.{name}", getattr(value, name))

    for call in model.calls:
        visit(call.name, call.layer)
    return found


def assert_same_model(found, expected) -> None:
    """Compare all that a model is, bit for bit."""
    assert found is not None
    assert [(call.name, call.inputs, call.masks) for call in found.calls] == [
        (call.name, call.inputs, call.masks) for call in expected.calls
    ]
    assert list(found.outputs) == list(expected.outputs)
    mine, its = arrays(found), arrays(expected)
    assert mine.keys() == its.keys()
    assert mine
    for name, array in its.items():
        np.testing.assert_array_equal(mine[name], array, err_msg=name)


def sources(case: Path) -> list[tuple[Path, Path | None]]:
    """Return what a case was saved as, and the config where a container has none."""
    given = case / "model.json"
    found: list[tuple[Path, Path | None]] = [(case / "object_based" / "cp.ckpt", given)]
    if (case / "saved_model").is_dir():
        found.append((case / "saved_model", None))
    if (case / "name_based").is_dir():
        found.append((case / "name_based" / "ckpt", given))
    return found


@pytest.mark.parametrize("name", WHOLE)
def test_every_container_holds_the_model_that_the_h5_holds(folder, name):
    expected = lstmconv.load(folder / name / "model.h5").model
    assert expected is not None
    assert not expected.unknown
    for source, config in sources(folder / name):
        assert_same_model(lstmconv.load(source, config=config).model, expected)


@pytest.mark.parametrize("name", WHOLE)
def test_the_model_computes_what_tensorflow_computed(folder, name):
    io = np.load(folder / name / "io.npz")
    for source, config in sources(folder / name):
        model = lstmconv.load(source, config=config)
        np.testing.assert_allclose(lstmconv.reference(model, io["x"]), io["y"], atol=2e-6, err_msg=str(source))


@pytest.mark.parametrize("name", ["chain", "nested"])
def test_a_saved_model_and_a_checkpoint_go_whole_to_onnx_and_pytorch(folder, name, tmp_path):
    io = np.load(folder / name / "io.npz")
    for number, (source, config) in enumerate(sources(folder / name)):
        made = lstmconv.convert(source, tmp_path / f"{number}.onnx", config=config, whole=True, verify=False).paths[0]
        session = onnxruntime.InferenceSession(made)
        (given,) = session.get_inputs()
        x = io["x"].astype("int64" if "int" in given.type else "float32")
        np.testing.assert_allclose(session.run(None, {given.name: x})[0], io["y"], atol=1e-5, err_msg=str(source))
        made = lstmconv.convert(source, tmp_path / f"{number}.pt", config=config, whole=True, verify=False).paths[0]
        with torch.no_grad():
            y = lstmconv.torch.load(made)(torch.from_numpy(x))
        np.testing.assert_allclose(y.numpy(), io["y"], atol=1e-5, err_msg=str(source))


def test_a_class_of_the_users_own_has_the_layers_of_the_h5(folder):
    """Their arrays equal the .h5's; what they compute stands in the SavedModel alone."""
    case = folder / "subclassed"
    expected = {
        layer.name: layer for layer in lstmconv.load(case / "weights.h5", recurrent_activation="sigmoid").layers
    }
    containers = [
        case / "object_based" / "cp.ckpt",
        *([case / "saved_model"] if (case / "saved_model").is_dir() else []),
    ]
    for source in containers:
        found = lstmconv.load(source)
        assert {layer.name for layer in found.layers} == set(expected)
        for layer in found.layers:
            for mine, its in zip(layer.directions, expected[layer.name].directions, strict=True):
                for name, gates in its.arrays.items():
                    np.testing.assert_array_equal(np.stack(list(mine.arrays[name])), np.stack(list(gates)))
        if source.name == "saved_model":
            assert found.unknown is None
            assert {layer.name: layer.merge_mode for layer in found.layers if layer.bidirectional} == {
                "both_ways": "sum"
            }
            assert str(found["lstm_a"].recurrent_activation).startswith("hard_sigmoid")
        else:
            assert "had either default" in str(found.unknown)


def test_a_checkpoint_is_named_by_its_prefix_its_files_or_its_folder(folder):
    place = folder / "chain" / "object_based"
    expected = lstmconv.load(place / "cp.ckpt").provenance
    assert expected.source == "cp.ckpt.index"
    names = ("cp.ckpt.index", "cp.ckpt.data-00000-of-00001", "checkpoint", "")
    assert {lstmconv.load(place / name).provenance.sha256 for name in names} == {expected.sha256}


def test_a_saved_model_is_named_by_its_folder_or_a_file_in_it(tmp_path):
    place = only(tmp_path, "2.8.4") / "chain" / "saved_model"
    names = ("", "saved_model.pb", "keras_metadata.pb", "variables/variables", "variables/variables.index")
    assert {lstmconv.load(place / name).provenance.source for name in names} == {"saved_model"}


def only(tmp_path: Path, version: str) -> Path:
    """Unpack the files of one TensorFlow into a folder that a test may change."""
    with zipfile.ZipFile(Path(__file__).parent / "golden" / "tensorflow" / f"tf-{version}.zip") as archive:
        archive.extractall(tmp_path / version)
    return tmp_path / version


def test_of_several_checkpoints_in_a_folder_the_latest_is_meant_or_none(tmp_path):
    place = only(tmp_path, "2.8.4") / "chain" / "object_based"
    for file in list(place.glob("cp.ckpt*")):
        shutil.copy(file, place / file.name.replace("cp.ckpt", "cp-2"))
    assert lstmconv.load(place).provenance.source == "cp.ckpt.index"
    (place / "checkpoint").write_text(
        'model_checkpoint_path: "/content/gone/cp-2"\nall_model_checkpoint_paths: "cp-2"\n'
    )
    assert lstmconv.load(place).provenance.source == "cp-2.index"
    (place / "checkpoint").unlink()
    with pytest.raises(UnreadableFileError, match=r"several models: cp-2\.index, cp\.ckpt\.index"):
        lstmconv.load(place)


def test_a_data_file_without_its_index_is_damage_and_not_another_file(tmp_path):
    place = only(tmp_path, "2.8.4") / "chain" / "object_based"
    (place / "cp.ckpt.index").unlink()
    (result,) = lstmconv.check([place / "cp.ckpt.data-00000-of-00001"])
    assert (result.status, result.findings[0].rule) == ("failed", "damaged")
    assert result.findings[0].message == "a data file of a checkpoint, and cp.ckpt.index is not beside it"


def test_optimizer_slots_are_no_weights(tmp_path):
    """Without a config, too: Adam's moments have the kernels' shapes."""
    case = only(tmp_path, "2.8.4") / "chain"
    for source in (case / "object_based" / "cp.ckpt", case / "name_based" / "ckpt"):
        assert {layer.name for layer in lstmconv.load(source).layers} == {"low", "both"}


def changed_config(case: Path, change) -> Path:
    config = json.loads((case / "model.json").read_text())
    change(config["config"]["layers"])
    (case / "changed.json").write_text(json.dumps(config))
    return case / "changed.json"


def test_a_config_of_other_layers_is_refused(tmp_path):
    case = only(tmp_path, "2.8.4") / "kinds"
    source = case / "object_based" / "cp.ckpt"
    for change in (lambda layers: layers.pop(), lambda layers: layers.insert(1, layers[-1])):
        with pytest.raises(UnsupportedModelError, match="does not belong to these weights"):
            lstmconv.load(source, config=changed_config(case, change))


def test_a_config_with_the_same_names_in_another_order_is_refused(tmp_path):
    case = only(tmp_path, "2.8.4") / "nested"

    def exchange(layers):
        text = json.dumps(layers)
        layers[:] = json.loads(text.replace('"twice"', '"x!"').replace('"last"', '"twice"').replace('"x!"', '"last"'))

    with pytest.raises(UnsupportedModelError, match="same names in another order: 'last' would be 'twice'"):
        lstmconv.load(case / "object_based" / "cp.ckpt", config=changed_config(case, exchange))


def test_a_config_whose_layers_are_named_otherwise_is_taken_by_order_and_says_so(tmp_path):
    case = only(tmp_path, "2.8.4") / "stateful"
    given = changed_config(case, lambda layers: layers[-1]["config"].update(name="other"))
    found = lstmconv.load(case / "object_based" / "cp.ckpt", config=given)
    assert "the config's layer 'other' is taken for 'out' of the file, by order" in found.notes


def test_check_guards_the_files_of_saved_models_and_checkpoints(tmp_path):
    case = only(tmp_path, "2.8.4") / "chain"
    lstmconv.convert(case / "saved_model", case / "model.onnx", verify=False)
    names = ("saved_model/saved_model.pb", "saved_model", "saved_model/variables/variables.data-00000-of-00001")
    for result in lstmconv.check([case / name for name in names]):
        assert (result.status, result.layers, result.twins) == ("passed", ("low", "both"), (str(case / "model.onnx"),))
    shard = case / "saved_model" / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-9000])
    (result,) = lstmconv.check([shard])
    assert (result.status, result.findings[0].rule) == ("failed", "damaged")
    (result,) = lstmconv.check([case / "name_based" / "ckpt.index"])
    assert [finding.rule for finding in result.findings] == ["activation-unknown"]
    (tmp_path / "faiss.index").write_bytes(b"IxF2" * 100)
    assert lstmconv.check([tmp_path / "faiss.index"])[0].status == "ignored"


def test_files_of_tensorflow_without_layers_are_named(tmp_path):
    for name, content, says in (
        ("frozen.pb", b"\x0a\x08\x0a\x01x\x12\x03Foo", "a frozen graph"),
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(60), "TensorFlow Lite"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LstmconvError, match=says):
            lstmconv.load(tmp_path / name)


def test_no_format_is_written_as_tensorflow(tmp_path):
    source = only(tmp_path, "2.8.4") / "stateful" / "model.h5"
    with pytest.raises(LstmconvError, match="writes none"):
        lstmconv.convert(source, tmp_path / "out.ckpt.index")
    assert not list(tmp_path.glob("out*"))
