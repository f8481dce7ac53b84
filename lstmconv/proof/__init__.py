"""The proof: a written file holds the same bits, and computes the same numbers, as its source.

Start reading at ``verifying``. ``pairing`` finds which layers belong together, ``weights`` compares structure and bits,
``outputs`` runs the file on inputs that ``trials`` draws. ``rounding`` bounds rounding errors; ``mistakes`` lists
wrong conversions and ``power`` computes what each of them would return; ``diagnosis`` explains a failure.
"""
