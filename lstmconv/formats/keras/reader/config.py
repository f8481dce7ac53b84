"""A model config, and the Keras version that wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Config", "KerasVersion", "config_from", "objects_in"]

_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class KerasVersion:
    """The version of Keras that a file states, such as ``2.2.4-tf``.

    >>> KerasVersion("2.2.4-tf").major
    2
    >>> KerasVersion("2.2.4-tf").names_a_release
    False
    """

    text: str

    @property
    def major(self) -> int | None:
        """The first number; ``None`` if there is none."""
        head = self.text.split(".")[0]
        return int(head) if _NUMBER.fullmatch(head) else None

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor."""
        numbers = [int(part) if _NUMBER.fullmatch(part) else 0 for part in self.text.split("-")[0].split(".")[:2]]
        major, minor, *_ = [*numbers, 0, 0]
        return major, minor

    @property
    def names_a_release(self) -> bool:
        """False for ``-tf`` versions (TF 1.15 to 2.2), which do not say which of their LSTM classes was used."""
        return not self.text.endswith("-tf")

    @property
    def is_keras_team(self) -> bool:
        """Whether this is keras-team Keras up to 2.3, whose mask rules differ from TensorFlow's.

        >>> [KerasVersion(text).is_keras_team for text in ("2.2.4", "2.2.4-tf", "2.4.0")]
        [True, False, False]
        """
        return self.names_a_release and self.release < (2, 4)


@dataclass(frozen=True)
class Config:
    """A model config and the version that wrote it.

    Attributes:
        model: ``{"class_name": ..., "config": ...}``.
        version: ``None`` if neither the config nor its file states it.
    """

    model: Mapping[str, Any]
    version: KerasVersion | None

    @cached_property
    def major(self) -> int | None:
        """The major version of Keras, from the stated version or from keys that only one version writes."""
        if self.version is not None:
            return self.version.major
        # tf.keras and tf-keras write time_major into every RNN's config, and keras_version into every
        # to_json(). Keras 3 writes neither, but "module" and "registered_name" for every object.
        keys = {key for each in objects_in(self.model) for key in each}
        if "time_major" in keys:
            return 2
        return 3 if "registered_name" in keys and "keras_version" not in keys else None

    @property
    def stated(self) -> Mapping[str, Any]:
        """The config as ``model.to_json()`` states it, with the version."""
        return self.model if self.version is None else {**self.model, "keras_version": self.version.text}


def config_from(stated: Mapping[str, Any], version: str | None = None) -> Config:
    """Return the config for ``model.to_json()``; ``version`` is used if the JSON states no version."""
    own = stated.get("keras_version")
    text = own if isinstance(own, str) else version
    return Config(stated, KerasVersion(text) if text else None)


def objects_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every JSON object in a config, at any depth, the outermost first."""
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for each in inner:
        yield from objects_in(each)
