"""A toy format: one JSON object with the arrays of each LSTM layer, gates o g f i, one bias."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmconv.arrays.copying import place_bias
from lstmconv.formats.format import Artifact, Opened
from lstmconv.formats.hashing import hashing
from lstmconv.formats.mapped_file import MappedFile
from lstmconv.formats.options import ReadOptions, WriteOptions
from lstmconv.formats.record import encode, parse_record
from lstmconv.formats.restoring import restore
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Model, Provenance, Stack

ORDER = "ogfi"
MAGIC = b'{"toy": '


def recognises(file: MappedFile) -> bool:
    return file.head.startswith(MAGIC)


def obstacle(stack: Stack) -> str | None:
    alone = len(stack.layers) == 1 and not stack.first.bidirectional and not stack.first.go_backwards
    return None if alone else "a toy holds single layers that run forwards; convert to onnx"


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    return "a toy holds LSTM layers alone"


def terms(layer: LSTMLayer) -> str:
    return "one toy layer"


def losses(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> Iterator[str]:
    yield f"{path.name}: a toy is slow to parse"


def usage(artifact: Artifact, place: Path) -> str | None:
    return "play with it"


def write(checkpoint: Checkpoint, path: Path, options: WriteOptions) -> list[Path]:
    layers = {}
    for layer in checkpoint.layers:
        half = layer.forward
        bias, _ = place_bias(half, "single-input", zeros=True)
        arrays = {"w": half.weight_ih, "r": half.weight_hh, "b": bias}
        layers[layer.name] = {
            name: {gate: getattr(gates, gate).tolist() for gate in ORDER} for name, gates in arrays.items()
        }
    path.write_text(json.dumps({"toy": 1, "record": encode(checkpoint, options), "layers": layers}))
    return [path]


def open_file(file: MappedFile, options: ReadOptions) -> Opened:
    content = json.loads(file.content.tobytes())
    record = parse_record(content["record"])

    def interpret() -> Checkpoint:
        found = {
            name: (LSTMLayer(name, LSTMDirection(*(gates_of(arrays[key]) for key in "wrb"), layout="Toy")),)
            for name, arrays in content["layers"].items()
        }
        restored = restore(found, record, file.name)
        origin = Provenance(file.name, hashing(file), "toy")
        return Checkpoint(restored.layers, origin, edges=restored.edges, notes=restored.notes)

    return Opened(record, content["layers"], interpret)


def gates_of(stored: Mapping[str, Any]) -> Gates:
    return Gates(**{gate: np.array(stored[gate], np.float32) for gate in "ifgo"})
