"""Notes about layers: text that knows its layer."""

from __future__ import annotations

import copy
import pickle

from lstmconv.model.notes import LayerNote


def test_a_note_keeps_its_layer_when_it_is_copied_or_sent_to_a_worker():
    note = LayerNote("enc: lstm", "its model masks steps")
    for same in (copy.deepcopy(note), pickle.loads(pickle.dumps(note))):
        assert (same, same.layer, same.sentence) == ("enc: lstm: its model masks steps", "enc: lstm", note.sentence)
