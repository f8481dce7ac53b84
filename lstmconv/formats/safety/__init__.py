"""Checks before reading: limits of size and count, and zip directories that can be trusted."""
