"""What a file holds and how its layers compute, as values, and drawn on a terminal."""
