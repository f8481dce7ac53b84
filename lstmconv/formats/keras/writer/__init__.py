"""Write Keras files for Keras 2 and Keras 3."""
