"""Make the golden TensorFlow.js models of the converter's own writer, from a golden .h5 of the same models.

    python3.11 -m venv tfjs && tfjs/bin/pip install tensorflowjs==4.22.0
    tfjs/bin/python tests/golden/tensorflow/make_tensorflow_js.py tests/golden/tensorflow

It writes ``tfjs-4.22.0.zip``: ``chain`` (its weights in shards of 500 bytes), ``nested``, and ``float16``, ``uint8``
and ``uint16`` (``chain``, quantized; ``dequantized.npz`` beside each has its weights as tensorflowjs reads them back).
"""

import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
from tensorflowjs import read_weights
from tensorflowjs.converters.keras_h5_conversion import h5_merged_saved_model_to_tfjs_format, write_artifacts

SOURCE = "tf-2.13.1.zip"
CASES = {
    "chain": ("chain", None),
    "nested": ("nested", None),
    "float16": ("chain", {"float16": "*"}),
    "uint8": ("chain", {"uint8": "*"}),
    "uint16": ("chain", {"uint16": "*"}),
}


def main(target):
    root = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(Path(target) / SOURCE) as archive:
        archive.extractall(root / "source")
    for name, (source, quantized) in CASES.items():
        (root / "made" / name).mkdir(parents=True)
        with h5py.File(root / "source" / source / "model.h5", "r") as file:
            topology, groups = h5_merged_saved_model_to_tfjs_format(file)
            write_artifacts(topology, groups, str(root / "made" / name), quantized, weight_shard_size_bytes=500)
        if quantized:
            manifest = json.loads((root / "made" / name / "model.json").read_text())["weightsManifest"]
            read = read_weights.read_weights(manifest, str(root / "made" / name), flatten=True)
            np.savez(root / "made" / name / "dequantized.npz", **{each["name"]: each["data"] for each in read})
    path = Path(target) / "tfjs-4.22.0.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(each for each in (root / "made").rglob("*") if each.is_file()):
            member = zipfile.ZipInfo(file.relative_to(root / "made").as_posix(), (2020, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, file.read_bytes())
    shutil.rmtree(root)
    print(path, path.stat().st_size)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
