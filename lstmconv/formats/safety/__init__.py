"""What is refused before it is read: sizes, counts, and files that only look like models."""
