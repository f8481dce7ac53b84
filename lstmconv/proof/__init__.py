"""The proof: a written file holds the same bits, and computes the same numbers, as its source.

``verifying`` is the way through it: ``pairing`` tells which layers belong together, ``weights`` compares structure and
bits, ``outputs`` runs the file. What rounding may do is ``rounding``'s, what mistakes would do ``mistakes``' and
``power``'s; ``diagnosis`` names what went wrong, ``trials`` draws the inputs.
"""
