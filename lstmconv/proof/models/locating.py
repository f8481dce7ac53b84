"""Which outputs are off, where no mistake of the catalogue explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lstmconv.model import Model
from lstmconv.proof.models.inputs import ModelTrial
from lstmconv.proof.noise import Noise, worst_of

__all__ = ["first_difference"]


def first_difference(
    model: Model,
    trials: Sequence[ModelTrial],
    returned: Mapping[ModelTrial, Mapping[str, Any]],
    noises: Mapping[Any, Noise],
) -> str | None:
    """Say which outputs are off and which are right; ``None`` where there is one alone."""
    wrong = {
        name
        for trial in trials
        for name, array in returned[trial].items()
        if worst_of({name: array}, {name: trial.expected[name]}, noises[trial]).ratio > 1.0
    }
    if not wrong or len(trials[0].expected) == 1:
        return None
    right = [name for name in trials[0].expected if name not in wrong]
    return f"wrong: {', '.join(sorted(wrong))}; right: {', '.join(right) or 'no output'}"
