"""Copy, compare and map arrays."""
