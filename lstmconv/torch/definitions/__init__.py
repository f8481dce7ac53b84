"""What Keras computes and torch.nn does not, as PyTorch's users write it: functions, and modules of torch.nn's names.

:class:`lstmconv.torch.KerasModel` runs them, and :mod:`lstmconv.formats.torch_code.copied` copies their text into the
source that it writes. So a definition needs nothing but its file's imports and other definitions, no other definition
has its name, and its lines have at most 88 characters, as formatters have them by default.
"""
