"""Build the ONNX graph of LSTM layers, and store it."""
