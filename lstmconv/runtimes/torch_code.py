"""Run a written source in a child process that cannot import lstmconv; its weights are a state dict."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from lstmconv._optional import require
from lstmconv.formats import MappedFile
from lstmconv.formats.torch_code import Source
from lstmconv.formats.torch_code.recurrent import kept_states
from lstmconv.model import Array, Call, LSTMLayer, RecurrentLayer, Stack
from lstmconv.runtimes import Loaded, LoadedModel, NotRunError, Precision
from lstmconv.runtimes.source_process import receive, send
from lstmconv.runtimes.torch import StateDict
from lstmconv.runtimes.torch_model import begun_states
from lstmconv.semantics.graph import final_states, state_slots, stateful_calls

__all__ = ["RUNTIME"]


class SourceFile(StateDict):
    """A source that lstmconv wrote; the content of its artifact is its text, which is that of the file."""

    @property
    def _source(self) -> Source:
        return cast("Source", self.artifact.content)

    @property
    def weights(self) -> MappedFile:
        """The state dict's file."""
        return self._source.weights

    @property
    def read(self) -> Mapping[str, Array]:
        """The state dict as lstmconv reads it."""
        return self._source.tensors

    def load(self, name: str, way: int = 0) -> Loaded:
        """Refuse to run a part of a source.

        Raises:
            NotRunError: Always.
        """
        raise NotRunError("a .py file is run as a whole model, and the file that it is compared with holds none")

    def load_model(self) -> LoadedModel:
        """Start a process that runs the source."""
        require("torch", "Running a .py file")
        model = self.artifact.checkpoint.model
        assert model is not None
        floats = {array.dtype.name for array in self.read.values()}
        width = "float64" if "float64" in floats else "float32"
        process = _Process(self.artifact.path, self._source.text)
        taken = tuple(entry._replace(dtype=width) if entry.is_float else entry for entry in model.inputs)

        def compute(given: Mapping[str, Array]) -> Mapping[str, Array]:
            inputs = {str(k): np.asarray(given[entry.name]).astype(entry.dtype) for k, entry in enumerate(taken)}
            calls = [call for call in stateful_calls(model) if any(slot.initial in given for slot in state_slots(call))]
            for call in calls:
                inputs |= _begun(call, {name: np.asarray(array).astype(width) for name, array in given.items()})
            found = process.run(inputs)
            outputs = {name: found[str(number)] for number, name in enumerate(model.outputs)}
            return outputs | {name: state for call in calls for name, state in _ended(call, found).items()}

        precision = Precision(width, width)
        framework = f"torch {process.version}, in a process without lstmconv"
        return LoadedModel(framework, precision, taken, tuple(model.outputs), compute)


RUNTIME = SourceFile


def _kept(call: Call) -> tuple[list[tuple[str, int]], int]:
    """Return where a stateful layer's states are kept, and how many letters a state has."""
    layer = call.layer
    assert isinstance(layer, LSTMLayer | RecurrentLayer | Stack)
    path = layer.name.replace("/", ".")
    return kept_states(layer, path), 1 if isinstance(layer, RecurrentLayer) else 2


def _begun(call: Call, given: Mapping[str, Array]) -> dict[str, Array]:
    """Return initial states as the source keeps them: ``(rows, batch, units)`` of h and of c."""
    flat = begun_states(call, given)
    kept, letters = _kept(call)
    found: dict[str, Array] = {}
    start = 0
    for key, count in kept:
        own = flat[start : start + count]
        found |= {f"{key}:{place}": np.stack(own[place::letters]) for place in range(letters)}
        start += count
    return found


def _ended(call: Call, found: Mapping[str, Array]) -> dict[str, Array]:
    """Return final states by the names of :func:`lstmconv.semantics.graph.state_slots`."""
    kept, letters = _kept(call)
    flat: list[Array] = []
    for key, count in kept:
        flat += [found[f"{key}:{half % letters}"][half // letters] for half in range(count)]
    return dict(final_states(call, flat))


class _Process:
    """A process that runs one source; it ends with this object.

    Attributes:
        version: The version of its torch.
    """

    def __init__(self, path: Path, text: str) -> None:
        script = Path(__file__).with_name("source_process.py")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the process
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
        )
        weakref.finalize(self, _end, self._process, self._errors, self._folder)
        first = {
            "path": str(path.resolve()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "modules": [str(Path(entry).resolve()) for entry in sys.path],
        }
        self.version = self._answer(json.dumps(first).encode()).decode()

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once."""
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]  # names are no options of it: they begin with a digit or hold a colon
        answer = np.load(io.BytesIO(self._answer(content.getvalue())), allow_pickle=False)
        return {name: answer[name] for name in answer.files}

    def _answer(self, request: bytes) -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # The answer says that it has ended.
            send(cast("Any", stdin), request)
        answer = receive(cast("Any", stdout))
        if answer is None:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"the process that runs the .py file ended: {last or self._process.returncode}")
        if answer[:1] == b"-":
            raise RuntimeError(answer[1:].decode())
        return answer[1:]


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()
    errors.close()
    folder.cleanup()
