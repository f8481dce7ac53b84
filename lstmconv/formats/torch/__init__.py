"""PyTorch's state dicts, in ``.pt`` and ``.safetensors``: LSTM layers alone, or whole models."""
