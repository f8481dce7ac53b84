"""SavedModels of ``model.export()`` and TensorFlow's checkpoints of Keras 3: no config, the layers by their names."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

import lstmconv
from lstmconv.errors import LstmconvError, UnsupportedModelError
from tests.test_tensorflow import arrays, assert_same_model

ARCHIVES = sorted((Path(__file__).parent / "golden" / "tensorflow").glob("exports-*.zip"))

pytestmark = pytest.mark.usefixtures("trusted_golden_files")


@pytest.fixture(scope="module", params=ARCHIVES, ids=[path.stem for path in ARCHIVES])
def made(request, tmp_path_factory) -> Path:
    """Return the folder of what one Keras wrote."""
    place = tmp_path_factory.mktemp(request.param.stem)
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(place)
    return place


def containers(case: Path) -> list[Path]:
    places = (case / "export", case / "archive", case / "saved", case / "checkpoint" / "cp")
    return [place for place in places if place.is_dir() or place.with_suffix(".index").is_file()]


def test_with_its_config_every_container_holds_the_model_that_the_keras_file_holds(made):
    case = made / "nested"
    expected = lstmconv.load(case / "model.keras").model
    assert len(containers(case)) == (1 if "tf-keras" in str(made) else 4)
    for place in containers(case):
        assert_same_model(lstmconv.load(place, config=case / "model.json").model, expected)


def test_without_a_config_the_layers_have_their_names_and_the_option_is_named(made, tmp_path):
    case = made / "nested"
    names = {"zeta", "alpha", "middle", "twice", "both"}
    expected = arrays(lstmconv.load(case / "model.keras").model)
    for place in containers(case):
        found = lstmconv.load(place)
        assert {layer.name.split("/")[-1] for layer in found.layers} == names
        for layer in found.layers:
            (its,) = (
                expected[key] for key in expected if key.endswith(f"{layer.name.split('/')[-1]}.forward.weight_hh.i")
            )
            assert (layer.forward.weight_hh.i == its).all()
        with pytest.raises(LstmconvError, match=r"pass config=\"model\.json\""):
            lstmconv.convert(place, tmp_path / "out.onnx")


def test_a_config_of_other_names_is_refused(made):
    case = made / "nested"
    config = json.loads((case / "model.json").read_text().replace('"twice"', '"thrice"'))
    (case / "other.json").write_text(json.dumps(config))
    for place in containers(case):
        with pytest.raises(
            LstmconvError, match="'thrice' should hold an LSTM of 5 units with a bias, and it holds nothing"
        ):
            lstmconv.load(place, config=case / "other.json")


def test_layers_that_the_names_do_not_tell_apart_are_refused(made):
    """A class of the user's own builds its layers under one name; two LSTMs of equal sizes would be exchanged."""
    case = made / "subclassed"
    if "tf-keras" in str(made):  # Its variables have the layers' names.
        assert {layer.name for layer in lstmconv.load(case / "export").layers} == {"net/lstm", "net/lstm_1"}
        return
    with pytest.raises(UnsupportedModelError, match="two of its variables are called 'net/") as caught:
        lstmconv.load(case / "export")
    assert "model.save('model.keras')" in str(caught.value)
    assert {layer.name for layer in lstmconv.load(case / "checkpoint" / "cp").layers} == {"model/low", "model/high"}
