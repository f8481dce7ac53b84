"""Record cuDNN itself: where it keeps each weight, and what it computes from lstmconv's packed buffers.

On a machine with an NVIDIA GPU, from the root of the repository:

    pip install torch .
    PYTHONPATH=$PWD python tests/golden/make_cudnn_gpu.py [FOLDER]

Writes ``gpu-<cuDNN's version>-<card>.npz`` and a ``.json`` of the same name to FOLDER, by default
``tests/golden/cudnn``; README.md beside this script says what is in them. Prints one line a case and exits with
0 where cuDNN agrees with lstmconv in every case, 1 where something differs (it is written all the same),
2 where there is no GPU or no cuDNN 9.

Every case is a seeded random stack, packed by ``lstmconv.to_cudnn`` and run by ``cudnnRNNForward`` (inference, called
through ctypes), and with double biases by PyTorch too, as ``lstmconv verify`` does it. All memory is PyTorch's.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime as dt
import itertools
import json
import sys
import tempfile
from contextlib import ExitStack
from ctypes import byref, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lstmconv
from lstmconv.formats import WriteOptions, open_file
from lstmconv.formats.cudnn import manifest, write
from lstmconv.model import Checkpoint, Gates, LSTMDirection, LSTMLayer, Provenance, Stack
from lstmconv.runtimes import Inputs, NotRunError, session
from lstmconv.semantics import run_stack
from tests.golden.cudnn_api import (
    BIAS_MODES,
    CUDNN_BIDIRECTIONAL,
    CUDNN_FMA_MATH,
    CUDNN_FWD_MODE_INFERENCE,
    CUDNN_LINEAR_INPUT,
    CUDNN_LSTM,
    CUDNN_RNN_ALGO_STANDARD,
    CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED,
    CUDNN_RNN_PADDED_IO_ENABLED,
    CUDNN_UNIDIRECTIONAL,
    DATA_TYPES,
    Cudnn,
    CudnnError,
    load_library,
)

SIZES = [(3, 5), (7, 7), (16, 32)]
"""Input and hidden size: primes that cannot be mistaken for each other, a square, and what tensor cores like."""
BATCH, STEPS = 2, 7
LIN_LAYERS = 9
"""linLayerID 0..3 are i f g o of W, 4..7 those of R, 8 the projection, absent here."""

NOISE = {"float32": 1e-5, "float16": 8e-3}
"""How far rounding alone may take y, hy and cy from the float64 reference in these cases.

float32: PyTorch's own LSTM on a CPU stays within 2e-6; a GPU's exp and tanh are good to a few units in the last place.
float16: with h and c, which reach 4, rounded to a half after every step, and float32 arithmetic, they stray by 3e-3.
The weakest exchange of two gates moves them by 0.17.
"""

MODES = {
    "CUDNN_RNN_NO_BIAS": "none",
    "CUDNN_RNN_SINGLE_INP_BIAS": "single-input",
    "CUDNN_RNN_DOUBLE_BIAS": "double",
    "CUDNN_RNN_SINGLE_REC_BIAS": "single-recurrent",
}
"""cuDNN's bias modes as lstmconv's ``bias_mode``."""


@dataclass(frozen=True)
class Case:
    """One configuration of an RNN."""

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias_mode: str
    dtype: str

    @property
    def name(self):
        """As in ``float16_3x5_2_both_DOUBLE_BIAS``."""
        ways = "both" if self.bidirectional else "one"
        bias = self.bias_mode.removeprefix("CUDNN_RNN_")
        return f"{self.dtype}_{self.input_size}x{self.hidden_size}_{self.num_layers}_{ways}_{bias}"

    @property
    def pseudo_layers(self):
        """The number of layers' directions."""
        return self.num_layers * (1 + self.bidirectional)


CASES = [
    Case(*sizes, num_layers, bidirectional, bias_mode, dtype)
    for dtype, sizes, num_layers, bidirectional, bias_mode in itertools.product(
        DATA_TYPES, SIZES, (1, 2, 3), (False, True), BIAS_MODES
    )
]


def draw(random, dtype, *shape, scale=1.0):
    """Draw multiples of 1/128: exact in both dtypes and small when compressed; their products are not exact halves."""
    return (np.round(random.normal(scale=scale, size=shape) * 128) / 128).astype(dtype)


def make_stack(case, random):
    """Make a stack of random layers with as many biases as the mode has."""

    def gates(*shape):
        return Gates(*draw(random, case.dtype, 4, case.hidden_size, *shape, scale=0.5))

    def direction(features, backwards):
        biases = {"CUDNN_RNN_NO_BIAS": 0, "CUDNN_RNN_DOUBLE_BIAS": 2}.get(case.bias_mode, 1)
        matrices = gates(features), gates(case.hidden_size)
        return LSTMDirection(*matrices, *(gates() for _ in range(biases)), go_backwards=backwards)

    layers = []
    for index in range(case.num_layers):
        features = case.input_size if index == 0 else case.hidden_size * (1 + case.bidirectional)
        backward = direction(features, True) if case.bidirectional else None
        layers.append(LSTMLayer(f"lstm_{index}", direction(features, False), backward))
    return Stack("lstm", tuple(layers))


def describe_rnn(cudnn, handle, case, opened):
    """Return cuDNN's descriptor of a case; ``opened`` destroys it."""
    dropout = opened.enter_context(cudnn.made("DropoutDescriptor"))
    cudnn.call("cudnnSetDropoutDescriptor", dropout, handle, 0.0, None, 0, 0)
    rnn = opened.enter_context(cudnn.made("RNNDescriptor"))
    cudnn.call(
        "cudnnSetRNNDescriptor_v8",
        *(rnn, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, BIAS_MODES[case.bias_mode]),
        *(CUDNN_BIDIRECTIONAL if case.bidirectional else CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT),
        # Products of halves are summed in float32, as PyTorch has it; FMA rules out TF32 for floats.
        *(DATA_TYPES[case.dtype], DATA_TYPES["float32"], CUDNN_FMA_MATH),
        *(case.input_size, case.hidden_size, case.hidden_size, case.num_layers, dropout, CUDNN_RNN_PADDED_IO_ENABLED),
    )
    return rnn


def read_layout(cudnn, handle, case, rnn, space, size):
    """Ask cuDNN where every matrix and bias is.

    Returns:
        Matrices and biases, each ``(pseudo-layer, linLayerID, 8)``: the offset in bytes, the number of dimensions,
        three dimensions, three strides; where cuDNN's address is NULL, -1 and zeros.
    """
    found = np.zeros((2, case.pseudo_layers, LIN_LAYERS, 8), np.int64)
    with cudnn.made("TensorDescriptor") as matrix, cudnn.made("TensorDescriptor") as bias:
        for pseudo_layer, lin_layer in itertools.product(range(case.pseudo_layers), range(LIN_LAYERS)):
            addresses = c_void_p(), c_void_p()
            cudnn.call(
                "cudnnGetRNNWeightParams",
                *(handle, rnn, pseudo_layer, size, space, lin_layer),
                *(matrix, byref(addresses[0]), bias, byref(addresses[1])),
            )
            for kind, (address, tensor) in enumerate(zip(addresses, (matrix, bias), strict=True)):
                row = found[kind, pseudo_layer, lin_layer]
                if address.value is None:
                    row[0] = -1
                    continue
                data_type, count, dims, strides = c_int(), c_int(), (c_int * 3)(), (c_int * 3)()
                cudnn.call("cudnnGetTensorNdDescriptor", tensor, 3, byref(data_type), byref(count), dims, strides)
                row[:] = address.value - space, count.value, *dims, *strides
    return found[0], found[1]


def expected_layout(described):
    """Write lstmconv's manifest as :func:`read_layout` writes cuDNN's answers: dimensions are 1, rows, columns."""
    pseudo_layers = 1 + max(param["pseudoLayer"] for param in described["params"])
    found = np.zeros((2, pseudo_layers, LIN_LAYERS, 8), np.int64)
    found[..., 0] = -1
    for param in described["params"]:
        rows, columns = (*param["shape"], 1)[:2]
        place = param["kind"] == "bias", param["pseudoLayer"], param["linLayerID"]
        found[tuple(map(int, place))] = param["offset"], 3, 1, rows, columns, rows * columns, columns, 1
    return found[0], found[1]


def layout_differences(described, size, matrices, biases):
    """Say in a line each where lstmconv's manifest and cuDNN's answers differ."""
    lines = []
    if described["weightSpaceSize"] != size:
        lines.append(f"weight space: cuDNN {size} bytes, lstmconv {described['weightSpaceSize']}")
    for kind, ours, theirs in zip(("matrix", "bias"), expected_layout(described), (matrices, biases), strict=True):
        for place in np.argwhere((ours != theirs).any(axis=-1)):
            own, other = ours[tuple(place)].tolist(), theirs[tuple(place)].tolist()
            lines.append(f"pseudoLayer {place[0]} linLayerID {place[1]} {kind}: cuDNN {other}, lstmconv {own}")
    return lines


def forward(cudnn, handle, case, rnn, space, arrays, device):
    """Run cudnnRNNForward at inference; return y ``(batch, time, D*H)``, hy and cy ``(D*layers, batch, H)``."""
    import torch

    x, hx, cx = (torch.from_numpy(arrays[key]).to(device) for key in ("x", "hx", "cx"))
    y = torch.full((BATCH, STEPS, case.hidden_size * (1 + case.bidirectional)), torch.nan, dtype=x.dtype, device=device)
    hy, cy = torch.full_like(hx, torch.nan), torch.full_like(cx, torch.nan)
    with ExitStack() as opened:
        sequences = []
        for width in (x.shape[2], y.shape[2]):
            sequences.append(opened.enter_context(cudnn.made("RNNDataDescriptor")))
            cudnn.call(
                "cudnnSetRNNDataDescriptor",
                *(sequences[-1], DATA_TYPES[case.dtype], CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED),
                *(STEPS, BATCH, width, (c_int * BATCH)(*[STEPS] * BATCH), None),
            )
        state = opened.enter_context(cudnn.made("TensorDescriptor"))
        dims, strides = (c_int * 3)(*hx.shape), (c_int * 3)(*hx.stride())
        cudnn.call("cudnnSetTensorNdDescriptor", state, DATA_TYPES[case.dtype], 3, dims, strides)
        work_size, reserve_size = c_size_t(), c_size_t()
        cudnn.call(
            "cudnnGetRNNTempSpaceSizes",
            *(handle, rnn, CUDNN_FWD_MODE_INFERENCE, sequences[0], byref(work_size), byref(reserve_size)),
        )
        work = torch.empty(max(work_size.value, 1), dtype=torch.uint8, device=device)
        # No lengths on the device: since cuDNN 8.9.1 those of the data descriptor are enough.
        cudnn.call(
            "cudnnRNNForward",
            *(handle, rnn, CUDNN_FWD_MODE_INFERENCE, None, sequences[0], x.data_ptr(), sequences[1], y.data_ptr()),
            *(state, hx.data_ptr(), hy.data_ptr(), state, cx.data_ptr(), cy.data_ptr()),
            *(space.numel(), space.data_ptr(), work_size.value, work.data_ptr(), 0, None),
        )
        return {key: value.cpu().numpy() for key, value in (("y", y), ("hy", hy), ("cy", cy))}


ON_GPU = 1
"""Which of the weight space's ways to run is cuDNN itself; 0 is the interpreter."""


def run_torch(case, stack, arrays):
    """Run the same weights as lstmconv does for a user with a GPU: a written file, through ``torch._cudnn_rnn``."""
    states = [arrays[key][k].astype(np.float64) for k in range(case.pseudo_layers) for key in ("hx", "cx")]
    names = tuple(layer.name for layer in stack.layers)
    checkpoint = Checkpoint(stack.layers, Provenance("seeded", "0" * 64, "random"), joined={stack.name: names})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.cudnn.safetensors"
        write(checkpoint, path, WriteOptions(bias_mode=MODES[case.bias_mode]))
        found = (
            session(open_file(path))
            .load(stack.name, ON_GPU)
            .compute(Inputs(arrays["x"].astype(np.float64), tuple(states)))
        )
    stacked = {f"torch_{s}y": np.stack([found[f"{s}{k}"] for k in range(case.pseudo_layers)]) for s in "hc"}
    return {key: array.astype(case.dtype) for key, array in {"torch_y": found["y"], **stacked}.items()}


def output_differences(case, stack, arrays):
    """Return how far the outputs are from the float64 reference, and a line for each that is too far."""
    states = [arrays[key][k] for k in range(case.pseudo_layers) for key in ("hx", "cx")]
    judged = run_stack(stack, arrays["x"], states)
    expected = {"y": judged.outputs[0], "hy": np.stack(judged.states[0::2]), "cy": np.stack(judged.states[1::2])}
    off = {
        key: float(np.abs(arrays[key].astype(np.float64) - expected[key.removeprefix("torch_")]).max())
        for key in ("y", "hy", "cy", "torch_y", "torch_hy", "torch_cy")
        if key in arrays
    }
    limit = NOISE[case.dtype]
    # A NaN is what cuDNN left unwritten; it is not below any limit.
    lines = [f"{key} is {far:.2g} off, {limit:g} allowed" for key, far in off.items() if not far <= limit]
    return max(off.values(), default=0.0), lines


def record(cudnn, handle, case, device):
    """Record one case: its arrays, and what its entry in the JSON says."""
    import torch

    random = np.random.default_rng([case.input_size, case.num_layers, case.bidirectional, *case.bias_mode.encode()])
    stack = make_stack(case, random)
    mode = MODES[case.bias_mode]
    buffer = lstmconv.to_cudnn(stack, bias_mode=mode)
    described = manifest(stack, mode)
    states = (case.pseudo_layers, BATCH, case.hidden_size)
    arrays = {
        "weight_space": buffer,
        "x": draw(random, case.dtype, BATCH, STEPS, case.input_size),
        "hx": draw(random, case.dtype, *states, scale=0.5),
        "cx": draw(random, case.dtype, *states),
    }
    keys = ("inputSize", "hiddenSize", "numLayers", "dirMode", "biasMode", "dataType")
    entry = {**{key: described[key] for key in keys}, "torch": "ran"}
    differences = []
    try:
        with ExitStack() as opened:
            rnn = describe_rnn(cudnn, handle, case, opened)
            size = c_size_t()
            cudnn.call("cudnnGetRNNWeightSpaceSize", handle, rnn, byref(size))
            space = torch.zeros(max(size.value, buffer.nbytes), dtype=torch.uint8, device=device)
            space[: buffer.nbytes] = torch.from_numpy(buffer.view(np.uint8)).to(device)
            arrays["weight_space_size"] = np.array(size.value)
            layout = read_layout(cudnn, handle, case, rnn, space.data_ptr(), size.value)
            arrays |= dict(zip(("matrices", "biases"), layout, strict=True))
            differences += layout_differences(described, size.value, *layout)
            arrays |= forward(cudnn, handle, case, rnn, space, arrays, device)
    except CudnnError as error:
        differences.append(str(error))
    try:
        arrays |= run_torch(case, stack, arrays)
    except NotRunError as error:
        entry["torch"] = f"not run: {error}"
    except RuntimeError as error:  # PyTorch's for whatever cuDNN refuses.
        entry["torch"] = f"failed: {error}"
        differences.append(f"torch {entry['torch']}")
    far, lines = output_differences(case, stack, arrays)
    differences += lines
    return arrays, {**entry, "deviation": far, "differences": differences}


def record_all(cudnn, cases, device, folder, versions):
    """Record the cases, write both files, and return the number of cases that differ."""
    recorded, entries = {}, {}
    with cudnn.made() as handle:
        for case in cases:
            arrays, entries[case.name] = record(cudnn, handle, case, device)
            recorded |= {f"{case.name}|{key}": array for key, array in arrays.items()}
            differences = entries[case.name]["differences"]
            verdict = f"{len(differences)} DIFFER" if differences else "equal"
            torch_ran = entries[case.name]["torch"].split(":")[0]
            deviation = entries[case.name]["deviation"]
            print(f"{case.name:42} {verdict:>10}  outputs off by {deviation:.1e}  torch {torch_ran}")  # noqa: T201
            for line in differences:
                print(f"    {line}")  # noqa: T201
    number = cudnn.version  # cudnn_version_v9.h: major * 10000 + minor * 100 + patch level.
    version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    stem = f"gpu-{version}-{'-'.join(versions['card'].split())}"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{stem}.npz", **recorded)
    described = {"cudnn": version, **versions, "lstmconv": lstmconv.__version__, "cases": entries}
    (folder / f"{stem}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    differing = sum(bool(entry["differences"]) for entry in entries.values())
    print(f"{folder / stem}.npz: {len(entries)} cases, {differing} differ")  # noqa: T201
    return differing


def find_versions():
    """Return the versions of all that takes part but cuDNN."""
    import torch

    driver = c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(byref(driver))  # cuda.h: major * 1000 + minor * 10.
    major, minor = torch.cuda.get_device_capability()
    return {
        "card": torch.cuda.get_device_name(),
        "compute_capability": f"{major}.{minor}",
        "cuda_driver": f"{driver.value // 1000}.{driver.value % 1000 // 10}",
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
    }


def main(arguments=None):
    """Record all cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "cudnn")
    folder = parser.parse_args(arguments).folder
    try:
        import torch

        if not torch.cuda.is_available():
            raise OSError("PyTorch finds no CUDA device; run this on a machine with an NVIDIA GPU and torch with CUDA")
        torch.zeros(1, device="cuda")  # Makes the context in which cuDNN works.
        cudnn = Cudnn(load_library())
        return 1 if record_all(cudnn, CASES, "cuda", folder, find_versions()) else 0
    except (ImportError, OSError, CudnnError) as error:
        print(f"make_cudnn_gpu: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
