"""The proof of whole models: a written file returns what the graph of its source computes.

``checking`` is the way through it: ``inputs`` draws what the file is run on, ``noise`` what rounding may do to its
outputs, ``mistakes`` lists how a conversion goes wrong and ``variants`` computes what each of them would have returned.
"""

from __future__ import annotations

from lstmconv.proof.models.checking import check_model

__all__ = ["check_model"]
