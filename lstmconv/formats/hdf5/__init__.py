"""HDF5 files as trees of arrays, whatever wrote them."""
