"""A stand-in for libcudnn in the machine's own memory, for the script that records cuDNN on a GPU.

It keeps weights where cuDNN is observed to keep them, all matrices before all biases, and lets ``nn.LSTM`` compute.
It shows that the script works; about cuDNN it shows nothing.
"""

from __future__ import annotations

import ctypes
import itertools
from types import SimpleNamespace

import numpy as np
import torch

from tests.golden.cudnn_api import SIGNATURES

SUCCESS, BAD_PARAM = 0, 2000
TYPES = {0: np.float32, 2: np.float16}


def memory(address, dtype, *shape):
    """See ``shape`` elements at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class FakeCudnn:
    """The functions of :data:`SIGNATURES`, by their names in cuDNN without ``cudnn``.

    Args:
        order: The linLayerIDs of a pseudo-layer's matrices, and of its biases, as they follow each other in memory.
        gates: Which of PyTorch's gates, i f g o, each linLayerID modulo 4 is.
        refused: A function that answers CUDNN_STATUS_BAD_PARAM.
    """

    def __init__(self, order=range(8), gates=range(4), refused=None):
        self.order, self.gates, self.refused = list(order), list(gates), refused
        self.made, self.numbers = {}, itertools.count(1)

    def library(self):
        """Return what ``ctypes.CDLL`` would: functions that take C values."""
        functions = {
            name: ctypes.CFUNCTYPE(ctypes.c_int, *types)(self._function(name)) for name, types in SIGNATURES.items()
        }

        def get_version():
            return 91234

        def get_error_string(status):
            return {BAD_PARAM: b"CUDNN_STATUS_BAD_PARAM"}[status]

        def get_last_error_string(message, size):
            message.value = b"so the fake was told"

        return SimpleNamespace(
            **functions,
            cudnnGetVersion=get_version,
            cudnnGetErrorString=get_error_string,
            cudnnGetLastErrorString=get_last_error_string,
        )

    def _function(self, name):
        own = name.removeprefix("cudnn")

        def call(*arguments):
            if own == self.refused:
                return BAD_PARAM
            if own.startswith("Create"):
                number = next(self.numbers)
                self.made[number] = None
                arguments[0][0] = number
            elif own.startswith("Destroy"):
                del self.made[arguments[0]]
            else:
                getattr(self, own)(*arguments)
            return SUCCESS

        return call

    def SetDropoutDescriptor(self, descriptor, handle, dropout, states, size, seed):  # noqa: N802
        self.made[descriptor] = dropout

    def SetTensorNdDescriptor(self, descriptor, data_type, count, dims, strides):  # noqa: N802
        self.made[descriptor] = data_type, dims[:count], strides[:count]

    def GetTensorNdDescriptor(self, descriptor, requested, data_type, count, dims, strides):  # noqa: N802
        data_type[0], found, steps = self.made[descriptor]
        count[0] = len(found)
        for place, (dim, stride) in enumerate(zip(found, steps, strict=True)):
            dims[place], strides[place] = dim, stride

    def SetRNNDescriptor_v8(self, descriptor, *settings):  # noqa: N802
        _, _, bias_mode, dir_mode, _, data_type, _, _, features, hidden, _, layers, _, _ = settings
        biases = {0: (False, False), 1: (True, False), 2: (True, True), 3: (False, True)}[bias_mode]
        self.made[descriptor] = SimpleNamespace(
            dtype=TYPES[data_type], ways=1 + dir_mode, features=features, hidden=hidden, layers=layers, biases=biases
        )

    def SetRNNDataDescriptor(self, descriptor, data_type, layout, steps, batch, width, lengths, fill):  # noqa: N802
        self.made[descriptor] = batch, steps, width

    def _places(self, rnn):
        """Return the byte offset and the shape by (pseudo-layer, linLayerID, kind), and the size of all."""
        places, offset = {}, 0
        for kind, pseudo_layer in itertools.product((0, 1), range(rnn.layers * rnn.ways)):
            features = rnn.features if pseudo_layer < rnn.ways else rnn.hidden * rnn.ways
            for lin_layer in self.order:
                if kind and not rnn.biases[lin_layer // 4]:
                    continue
                columns = 1 if kind else features if lin_layer < 4 else rnn.hidden
                places[pseudo_layer, lin_layer, kind] = offset, (rnn.hidden, columns)
                offset += rnn.hidden * columns * np.dtype(rnn.dtype).itemsize
        return places, offset

    def GetRNNWeightSpaceSize(self, handle, descriptor, size):  # noqa: N802
        size[0] = self._places(self.made[descriptor])[1]

    def GetRNNTempSpaceSizes(self, handle, descriptor, mode, sequence, work, reserve):  # noqa: N802
        work[0], reserve[0] = 64, 0

    def GetRNNWeightParams(self, handle, descriptor, pseudo_layer, size, space, lin_layer, *results):  # noqa: N802
        rnn = self.made[descriptor]
        places, _ = self._places(rnn)
        for kind, (tensor, address) in enumerate((results[:2], results[2:])):
            offset, shape = places.get((pseudo_layer, lin_layer, kind), (None, None))
            address[0] = None if offset is None else space + offset
            if shape is not None:
                rows, columns = shape
                data_type = {kept: number for number, kept in TYPES.items()}[rnn.dtype]
                self.made[tensor] = data_type, (1, rows, columns), (rows * columns, columns, 1)

    def RNNForward(self, handle, descriptor, mode, lengths, x_sizes, x, y_sizes, y, *rest):  # noqa: N802
        _, hx, hy, _, cx, cy, _, space, _, _, _, _ = rest
        rnn = self.made[descriptor]
        module = torch.nn.LSTM(rnn.features, rnn.hidden, rnn.layers, batch_first=True, bidirectional=rnn.ways == 2)
        module.double()  # oneDNN would take a tenth of a second for every new shape of floats.
        flat = list(module.parameters())
        with torch.no_grad():
            for parameter in flat:
                parameter.zero_()
            for (pseudo_layer, lin_layer, kind), (offset, shape) in self._places(rnn)[0].items():
                first = self.gates[lin_layer % 4] * rnn.hidden
                gate = slice(first, first + rnn.hidden)
                parameter = flat[4 * pseudo_layer + 2 * kind + lin_layer // 4]
                values = torch.from_numpy(memory(space + offset, rnn.dtype, *shape).astype(np.float64))
                parameter[gate] = values[:, 0] if kind else values
            batch, _, _ = self.made[x_sizes]
            states = rnn.layers * rnn.ways, batch, rnn.hidden
            given = (memory(x, rnn.dtype, *self.made[x_sizes]), *(memory(s, rnn.dtype, *states) for s in (hx, cx)))
            doubles = [torch.from_numpy(array.astype(np.float64)) for array in given]
            found, (h, c) = module(doubles[0], (doubles[1], doubles[2]))
        memory(y, rnn.dtype, *self.made[y_sizes])[...] = found.numpy()
        memory(hy, rnn.dtype, *states)[...] = h.numpy()
        memory(cy, rnn.dtype, *states)[...] = c.numpy()
