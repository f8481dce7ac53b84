"""List the golden whole models: `for path, npz in whole_models(): ...`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent

_OF_THE_PYTORCH_BACKEND = {
    "average_pooling1d_4", "average_pooling2d_2", "average_pooling2d_3", "channels_first_1d/average_pooling1d",
    "layer_normalization/layer_normalization_1",
}  # fmt: skip
"""Outputs in which Keras' PyTorch backend stands alone: it counts padding into averages, and normalises the last axis
where axis 1 is asked for."""

_NOT_COMPARED = {
    # Keras 3 returns the states of cells as nested lists, recorded as one array each.
    "keras-3.15.1/rnn_of_cells_states",
    "tf-keras-2.21.0/rnn_of_cells_states",
    # Recorded in the order of the returned dict, named in the order of output_names.
    "keras-3.15.1/dictionary_of_inputs",
    # Keras 1 does not tell its backend: Theano flips the kernels of convolutions, and pads pooling otherwise.
    *(f"keras-1.2.2/{case}" for case in ("conv1d", "conv2d", "conv_classifier", "conv_theano_ordering", "pooling")),
    "keras-1.2.2/time_distributed",
}


def whole_models(folder: str = "*", case: str = "*") -> Iterator[tuple[Path, Path]]:
    """Yield each file that holds a whole model, with its recording. `folder` and `case` are glob patterns."""
    for path, npz in _files(folder, case):
        if path.suffix in {".h5", ".keras"} and "weights" not in path.name:
            yield path, npz


def weights_with_config(folder: str = "*", case: str = "*") -> Iterator[tuple[Path, Path, Path]]:
    """Yield each file that holds weights only, the `.json` of its model's config, and its recording."""
    for path, npz in _files(folder, case):
        if "weights" in path.name:
            yield path, npz.with_suffix(".json"), npz


def compared(npz: Path, outputs: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the outputs, with their numbers, whose recorded values are what every right conversion computes."""
    case = f"{npz.parent.name}/{npz.stem}"
    if case in _NOT_COMPARED:
        return
    for number, name in enumerate(outputs):
        alone = not _OF_THE_PYTORCH_BACKEND.isdisjoint((name, f"{npz.stem}/{name}"))
        if not (alone and npz.parent.name.startswith("keras-3")):
            yield number, name


def _files(folder: str, case: str) -> Iterator[tuple[Path, Path]]:
    for npz in sorted(HERE.glob(f"{folder}/{case}.npz")):
        for path in sorted(npz.parent.glob(f"{npz.stem}.*")):
            if path.suffix not in {".npz", ".json"}:
                yield path, npz
