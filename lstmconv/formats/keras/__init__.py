"""Keras files of every generation, read without Keras."""
