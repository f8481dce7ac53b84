"""Explain the layers of a file: as values, as JSON, and as drawings on a terminal."""
