"""Work on many files in worker processes."""
