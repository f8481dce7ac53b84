"""cuDNN 9 through ctypes: the functions of its RNN, their signatures, and every status checked.

Values of enumerators and signatures: cudnn_graph_v9.h, cudnn_ops_v9.h and cudnn_adv_v9.h of cuDNN 9.28.0
(nvidia-cudnn-cu12 9.28.0.42, nvidia/cudnn/include); the header is named at each group.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint32, c_ulonglong, c_void_p
from pathlib import Path

# cudnn_graph_v9.h: cudnnDataType_t, cudnnMathType_t.
DATA_TYPES = {"float32": 0, "float16": 2}
CUDNN_FMA_MATH = 3
# cudnn_adv_v9.h: cudnnRNNAlgo_t, cudnnForwardMode_t, cudnnRNNMode_t, cudnnRNNBiasMode_t, cudnnDirectionMode_t,
# cudnnRNNInputMode_t, cudnnRNNDataLayout_t, and the flag for auxFlags.
CUDNN_RNN_ALGO_STANDARD = 0
CUDNN_FWD_MODE_INFERENCE = 0
CUDNN_LSTM = 2
BIAS_MODES = {
    "CUDNN_RNN_NO_BIAS": 0,
    "CUDNN_RNN_SINGLE_INP_BIAS": 1,
    "CUDNN_RNN_DOUBLE_BIAS": 2,
    "CUDNN_RNN_SINGLE_REC_BIAS": 3,
}
CUDNN_UNIDIRECTIONAL, CUDNN_BIDIRECTIONAL = 0, 1
CUDNN_LINEAR_INPUT = 0
CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED = 2
CUDNN_RNN_PADDED_IO_ENABLED = 1

_ints = POINTER(c_int)
_out = POINTER(c_void_p)
_size = POINTER(c_size_t)
SIGNATURES = {
    # cudnn_graph_v9.h; handles and descriptors are opaque pointers.
    "cudnnCreate": [_out],
    "cudnnDestroy": [c_void_p],
    # cudnn_ops_v9.h
    "cudnnCreateTensorDescriptor": [_out],
    "cudnnDestroyTensorDescriptor": [c_void_p],
    "cudnnSetTensorNdDescriptor": [c_void_p, c_int, c_int, _ints, _ints],
    "cudnnGetTensorNdDescriptor": [c_void_p, c_int, _ints, _ints, _ints, _ints],
    "cudnnCreateDropoutDescriptor": [_out],
    "cudnnDestroyDropoutDescriptor": [c_void_p],
    "cudnnSetDropoutDescriptor": [c_void_p, c_void_p, c_float, c_void_p, c_size_t, c_ulonglong],
    # cudnn_adv_v9.h
    "cudnnCreateRNNDescriptor": [_out],
    "cudnnDestroyRNNDescriptor": [c_void_p],
    "cudnnSetRNNDescriptor_v8": [c_void_p, *[c_int] * 8, *[c_int32] * 4, c_void_p, c_uint32],
    "cudnnCreateRNNDataDescriptor": [_out],
    "cudnnDestroyRNNDataDescriptor": [c_void_p],
    "cudnnSetRNNDataDescriptor": [c_void_p, *[c_int] * 5, _ints, c_void_p],
    "cudnnGetRNNWeightSpaceSize": [c_void_p, c_void_p, _size],
    "cudnnGetRNNTempSpaceSizes": [c_void_p, c_void_p, c_int, c_void_p, _size, _size],
    "cudnnGetRNNWeightParams": [
        *(c_void_p, c_void_p, c_int32, c_size_t, c_void_p, c_int32),
        *(c_void_p, _out, c_void_p, _out),
    ],
    "cudnnRNNForward": [
        *(c_void_p, c_void_p, c_int, POINTER(c_int32), c_void_p, c_void_p, c_void_p, c_void_p),
        *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),
        *(c_size_t, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
    ],
}
"""Argument types of every function that returns a cudnnStatus_t."""


class CudnnError(Exception):
    """A cuDNN function returned another status than CUDNN_STATUS_SUCCESS."""


class Cudnn:
    """cuDNN through ctypes; every status is checked."""

    def __init__(self, library):
        """Take a loaded library."""
        self._library = library
        for name, types in SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, c_int
        library.cudnnGetVersion.restype = c_size_t
        library.cudnnGetErrorString.argtypes, library.cudnnGetErrorString.restype = [c_int], c_char_p
        library.cudnnGetLastErrorString.argtypes = [c_char_p, c_size_t]
        library.cudnnGetLastErrorString.restype = None
        self.version = library.cudnnGetVersion()

    def call(self, name, *arguments):
        """Call a function of :data:`SIGNATURES`.

        Raises:
            CudnnError: With cuDNN's name of the status and its last message.
        """
        status = getattr(self._library, name)(*arguments)
        if status != 0:  # CUDNN_STATUS_SUCCESS
            message = ctypes.create_string_buffer(512)
            self._library.cudnnGetLastErrorString(message, len(message))
            words = [name, self._library.cudnnGetErrorString(status).decode(), message.value.decode().strip()]
            raise CudnnError(": ".join(word for word in words if word))

    @contextmanager
    def made(self, kind=""):
        """Create a handle (no ``kind``) or a descriptor, and destroy it after use."""
        pointer = c_void_p()
        self.call(f"cudnnCreate{kind}", byref(pointer))
        try:
            yield pointer
        finally:
            self.call(f"cudnnDestroy{kind}", pointer)


def load_library():
    """Load the libcudnn that PyTorch uses.

    Raises:
        OSError: There is none.
    """
    import torch

    torch.backends.cudnn.version()  # Loads it; its name alone then finds that very library.
    site = Path(torch.__file__).parent.parent
    places = [site / "nvidia" / "cudnn" / "lib", site / "torch" / "lib"]
    for name in ("libcudnn.so.9", *(str(place / "libcudnn.so.9") for place in places)):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"libcudnn.so.9 is neither loaded nor in {places[0]}; install torch with CUDA and cuDNN 9")
