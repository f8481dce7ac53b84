"""A whole model as a Keras file: the graph as a Functional model of the Keras that it is written for."""
