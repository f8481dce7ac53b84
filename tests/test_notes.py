"""Notes about layers: text that knows its layer."""

from __future__ import annotations

import copy
import pickle

import lstmconv
from lstmconv.model.notes import LayerNote


def test_a_note_keeps_its_layer_when_it_is_copied_or_sent_to_a_worker():
    note = LayerNote("enc: lstm", "its model masks steps")
    for same in (copy.deepcopy(note), pickle.loads(pickle.dumps(note))):
        assert (same, same.layer, same.sentence) == ("enc: lstm: its model masks steps", "enc: lstm", note.sentence)


def test_a_loaded_file_s_notes_name_their_layer_and_spell_options_as_arguments():
    """The file says neither the order of time nor what the layers return: the command line's option is --last-step."""
    path = "sample_weights/keras2_weights_only.h5"
    notes = lstmconv.load(path, recurrent_activation="hard_sigmoid").notes
    found = [note for note in notes if isinstance(note, LayerNote)]
    assert found
    assert {note.layer for note in found} == {layer.name for layer in lstmconv.load(path).layers}
    assert any("return_sequences=False" in note.sentence for note in found)
    assert not any("--" in note for note in notes)
