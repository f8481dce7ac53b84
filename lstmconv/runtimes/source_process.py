"""Run a source in a process of its own: ``python -I source_process.py``, which can import torch and not lstmconv.

Nothing imports this file. It reads frames from its standard input and answers each on its standard output: the length
in eight bytes, then the content. The first is a JSON object (the source's path and sha256, and where modules are), the
others are ``.npz`` files: inputs by their number, states by their key and number.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO


def receive(stream: BinaryIO) -> bytes | None:
    """Read one frame; ``None`` at the end."""
    head = stream.read(8)
    return stream.read(int.from_bytes(head, "little")) if len(head) == 8 else None


def send(stream: BinaryIO, content: bytes) -> None:
    """Write one frame."""
    stream.write(len(content).to_bytes(8, "little") + content)
    stream.flush()


def loaded(path: Path, sha256: str) -> Any:
    """Run the source and return its model."""
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() != sha256:
        raise ValueError("the .py file has changed")
    module = ModuleType("source")
    module.__file__ = str(path)
    sys.modules["source"] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module.load()


def answered(model: Any, request: bytes) -> bytes:
    """Run the model once."""
    import numpy as np
    import torch

    arrays = np.load(io.BytesIO(request), allow_pickle=False)
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    if hasattr(model, "reset_states"):
        model.reset_states()
        for key in {name.rpartition(":")[0] for name in tensors if ":" in name}:
            h, c = tensors[f"{key}:0"], tensors.get(f"{key}:1")
            model.states[key] = h if c is None else (h, c)
    with torch.no_grad():
        found = model(*(tensors[str(number)] for number in range(sum(":" not in name for name in tensors))))
    outputs = found if isinstance(found, tuple) else (found,)
    returned = {str(number): tensor.numpy() for number, tensor in enumerate(outputs)}
    for key, state in getattr(model, "states", {}).items():
        parts = state if isinstance(state, tuple) else (state,)
        returned |= {f"{key}:{number}": part.numpy() for number, part in enumerate(parts)}
    content = io.BytesIO()
    np.savez(content, **returned)
    return content.getvalue()


def main() -> None:
    """Answer until the input ends; ``+`` leads an answer, ``-`` an error."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    first = json.loads(receive(requests) or b"{}")
    sys.path[:] = first["modules"]
    sys.modules["lstmconv"] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        model = loaded(Path(first["path"]), first["sha256"])
        answer = b"+" + sys.modules["torch"].__version__.encode()
    except Exception as error:
        answer = f"-{type(error).__name__}: {error}".encode()
    send(answers, answer)
    while (request := receive(requests)) is not None:
        try:
            answer = b"+" + answered(model, request)
        except Exception as error:
            answer = f"-{type(error).__name__}: {error}".encode()
        send(answers, answer)


if __name__ == "__main__":
    main()
