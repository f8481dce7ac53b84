"""Start a keras-team Keras on Python 3.11 with the Theano backend, and save and load with it."""

from __future__ import annotations

import inspect
import sys
import textwrap
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import make_old_keras
import numpy as np

FLAGS = "optimizer=None,mode=FAST_COMPILE"
INTERPRETED = "optimizer=None,mode=Mode,linker=py"


def start(tree):
    """Import the Keras in the folder `tree` and return it, with convolution and pooling in Python instead of C."""
    source = inspect.getsource(make_old_keras.load_keras).replace(FLAGS, INTERPRETED)
    exec(source, vars(make_old_keras))
    keras = make_old_keras.load_keras(tree)
    let_theano_convolve()
    read_attributes_as_bytes()
    return keras


def let_theano_convolve():
    """Give Theano the SciPy functions under their former names, and indices that NumPy still takes."""
    import scipy.signal
    import theano.ifelse  # noqa: F401 - Keras 1 takes it for granted
    from scipy.signal import _signaltools, _sigtools
    from theano.tensor.nnet import abstract_conv
    from theano.tensor.signal import pool

    abstract_conv.imported_scipy_signal = True
    abstract_conv.convolve = scipy.signal.convolve
    abstract_conv._convolve2d = _sigtools._convolve2d
    abstract_conv._valfrommode, abstract_conv._bvalfromboundary = (
        _signaltools._valfrommode,
        _signaltools._bvalfromboundary,
    )
    source = inspect.getsource(pool.Pool.perform).replace("yk[[", "yk[tuple([").replace("(nd)]]", "(nd)])]")
    scope: dict[str, types.FunctionType] = {}
    exec(textwrap.dedent(source), vars(pool), scope)
    pool.Pool.perform = scope["perform"]


def read_attributes_as_bytes():
    """Let h5py return strings as bytes, as it did when these versions of Keras were written."""
    from h5py import AttributeManager

    read = AttributeManager.__getitem__

    def as_bytes(self, name):
        value = read(self, name)
        if isinstance(value, np.ndarray) and value.dtype == object:
            return np.array([each.encode() if isinstance(each, str) else each for each in value], "S")
        return value.encode() if isinstance(value, str) else value

    AttributeManager.__getitem__ = as_bytes


def clear():
    """Let the numbers of layers begin at 1 again."""
    from keras.backend import common, theano_backend

    (getattr(theano_backend, "reset_uids", None) or common.reset_uids)()


def save(model, path, format):
    if "weights" in format:
        model.save_weights(path)
    else:
        model.save(path)
    return path


def load(path):
    from keras.models import load_model

    return load_model(path)
