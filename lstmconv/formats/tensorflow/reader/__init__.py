"""Read what TensorFlow keeps of a Keras model: tensors, the objects that own them, and configs."""
