"""PyTorch's state dicts, in ``.pt`` and ``.safetensors``."""
