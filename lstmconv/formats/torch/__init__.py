"""PyTorch's state dicts, in ``.pt`` and ``.safetensors``: the functions of both, which import their modules late."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lstmconv.formats.options import WriteOptions
    from lstmconv.formats.tensors import NamedTensor
    from lstmconv.model import Checkpoint, Model

__all__ = ["obstacle_of_model", "tensors_to_write"]


def obstacle_of_model(model: Model, options: WriteOptions) -> str | None:
    """Say why no state dict can hold a model whole; see :func:`lstmconv.formats.torch.whole.obstacle_of_model`."""
    from lstmconv.formats.torch import whole

    return whole.obstacle_of_model(model, options)


def tensors_to_write(checkpoint: Checkpoint, options: WriteOptions) -> list[NamedTensor]:
    """List the tensors of the LSTM layers, or with ``options.whole`` of the model.

    Raises:
        UnsupportedModelError: A layer does not fit ``nn.LSTM``, its activations are unknown, or a whole model is asked
            for and the checkpoint has none.
    """
    if options.whole:
        from lstmconv.formats.torch.whole import whole_tensors

        return whole_tensors(checkpoint, options)
    from lstmconv.formats.torch.state_dict import tensors

    return tensors(checkpoint, options)
