"""Read the LSTM nodes of any ONNX model."""
