"""Read a Keras model from TensorFlow's files: tensors, the objects that own them, and configs."""
