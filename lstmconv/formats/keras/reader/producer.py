"""The effects of the Keras version that wrote a file: hard_sigmoid, default activations, outputs of masked steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lstmconv.activations import SIGMOID, TANH, Activation, parse_activation
from lstmconv.errors import UnsupportedModelError
from lstmconv.formats.keras.reader.cells import HalfSpec
from lstmconv.formats.keras.reader.config import Config, KerasVersion, objects_in
from lstmconv.formats.keras.reader.open_file import KerasFile
from lstmconv.model.notes import LayerNote

__all__ = ["Producer"]

_MAJOR = {"legacy": 1, "tracked": 2, "named": 2}
"""The major version of Keras for a kind of file that states no version."""
_LAST = {1: "1.2", 2: "2.15"}


@dataclass
class Producer:
    """The Keras version that wrote a file, and the user's options that override the file.

    Attributes:
        file: The opened file.
        config: The file's config, or the one that the user passed; ``None`` for weights only.
        activation: The Keras name of the activation that overrides the file's.
        recurrent_activation: The Keras name of the recurrent activation that overrides the file's.
        notes: Receives every assumption and override, in whole sentences.
    """

    file: KerasFile
    config: Config | None
    activation: str | None = None
    recurrent_activation: str | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse a config and weights of Keras versions that compute hard_sigmoid differently."""
        config, weights = self.config, self.file.version
        if config is None or config.major is None or weights is None or weights.major is None:
            return
        different = (config.major >= 3) != (weights.major >= 3)
        if different and any("hard_sigmoid" in each.values() for each in objects_in(config.model)):
            stated = config.major if config.version is None else config.version.text
            raise UnsupportedModelError(
                f"weights by Keras {weights.text}, config by Keras {stated}, which compute "
                "hard_sigmoid differently: pass --recurrent-activation hard_sigmoid_keras2 or hard_sigmoid_keras3 "
                "without --config",
                about=self.file.name,
            )

    @property
    def major(self) -> int | None:
        """The major version; without a stated version, legacy weights are Keras 1 or older, TensorFlow's Keras 2."""
        if self.config is not None and self.config.major is not None:
            return self.config.major
        if self.file.version is not None:
            return self.file.version.major
        return _MAJOR.get(self.file.kind)

    @property
    def version(self) -> KerasVersion | None:
        """The Keras version of the config; if only its form shows the major version, that version's last release."""
        for stated in (self.config.version if self.config is not None else None, self.file.version):
            if stated is not None and stated.major == self.major:
                return stated
        return None if self.major is None else KerasVersion(_LAST.get(self.major, "3.15"))

    @property
    def defaults_to_sigmoid(self) -> bool:
        """Whether every LSTM of this Keras version has sigmoid and tanh by default.

        recurrent_activation was hard_sigmoid before keras-team 2.3.0 and in TF 1. Files and checkpoints of TF 1 cannot
        be distinguished from those of TF 2.0 ("2.2.4-tf", "2.3.0-tf"). Saveable files exist since Keras 2.11.
        """
        version = self.file.version
        if self.file.kind == "saveable":
            return True
        return version is not None and version.names_a_release and version.release >= (2, 3)

    @property
    def question(self) -> str:
        """The question to the user if the weights do not state their activation."""
        version = self.file.version
        if self.file.kind in ("tracked", "named"):
            writer = "TensorFlow, whose LSTM classes had either default"
        elif version is None:
            writer = "Keras 1 or older"
        elif not version.names_a_release:
            writer = f"Keras {version.text}, which had LSTM classes of either default"
        else:
            writer = f"Keras {version.text}, before sigmoid became the default in 2.3"
        return (
            f"weights only, by {writer}, and they do not say the recurrent activation: "
            "pass --config model.json, or --recurrent-activation hard_sigmoid (the default then) or sigmoid"
        )

    def activations(
        self, name: str, half: HalfSpec | None, *, cudnn: bool
    ) -> tuple[Activation | None, Activation | None]:
        """Return the exact activation and recurrent activation of a half; ``None`` if the file does not state it.

        Raises:
            UnsupportedModelError: The activation is custom, or the config does not state it.
        """
        if cudnn:  # cuDNN computes nothing else.
            return TANH, SIGMOID
        stated = _stated(half)
        chosen = {key: self._chosen(name, key, stated) for key in ("activation", "recurrent_activation")}
        if half is None and chosen["recurrent_activation"] is None and self.defaults_to_sigmoid:
            chosen["recurrent_activation"] = SIGMOID
            note = "the file does not say its recurrent activation; sigmoid is assumed, Keras' default"
            self.notes.append(LayerNote(name, note))
        if half is None and chosen["activation"] is None and chosen["recurrent_activation"] is not None:
            chosen["activation"] = TANH
            note = "the file does not say its activation; Keras' default is assumed, tanh"
            self.notes.append(LayerNote(name, note))
        return chosen["activation"], chosen["recurrent_activation"]

    def _chosen(self, name: str, key: str, stated: Mapping[str, object] | None) -> Activation | None:
        override: str | None = getattr(self, key)
        if override is not None:
            activation = parse_activation(override, self.major)
            was = f" instead of {stated[key]}" if stated is not None and key in stated else ""
            self.notes.append(LayerNote(name, f"{key} is {activation}{was}, as asked"))
            return activation
        if stated is None:
            return None
        if key not in stated:
            raise UnsupportedModelError(f"the config does not state the {key}; pass --{key.replace('_', '-')}")
        return parse_activation(stated[key], self.major)

    def zero_output_for_mask(self, options: Mapping[str, Any], *, bidirectional: bool) -> bool:
        """Whether masked steps return zeros; otherwise they repeat the last output.

        Bidirectional sets it to return_sequences (tf_keras and keras 3 bidirectional.py force_zero_output_for_mask);
        keras-team Keras up to 2.3 has no such option and repeats the last output.
        """
        if not bidirectional:
            return bool(options.get("zero_output_for_mask", False))
        keras_team = self.version is not None and self.version.is_keras_team
        return not keras_team and bool(options.get("return_sequences", False))


def _stated(half: HalfSpec | None) -> Mapping[str, object] | None:
    """Return the activations that a config states; Keras 1 calls the recurrent one inner_activation."""
    if half is None:
        return None
    names = {"activation": "activation", "recurrent_activation": "recurrent_activation"}
    names["inner_activation"] = "recurrent_activation"
    return {key: half.config[old] for old, key in names.items() if old in half.config}
