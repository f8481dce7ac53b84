"""Read Keras files of every generation."""
