"""The argument `implementation` of layers that compute the same function in several ways."""

from collections.abc import Sequence
from typing import Any

import keras


class ImplementationChoice(keras.layers.Layer):
    """Mixin, placed before a Keras layer, that adds, validates and serializes the argument `implementation`.

    A subclass lists its implementations in `IMPLEMENTATIONS`; "auto" is always allowed.
    """

    IMPLEMENTATIONS: tuple[str, ...] = ()

    def __init__(self, *args: Any, implementation: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.implementation = implementation
        if implementation not in ("auto", *self.IMPLEMENTATIONS):
            raise ValueError(
                f"{type(self).__name__} has no implementation {implementation!r}; use one of {self._choices()}"
            )

    def refuse_implementations(self, implementations: Sequence[str], why: str) -> None:
        """Raises ValueError if `self.implementation` is one of `implementations`; `why` says what they require."""
        if self.implementation in implementations:
            raise ValueError(
                f"implementation {self.implementation!r} does not apply: {why}; "
                f"use one of {self._choices(without=implementations)}"
            )

    def refuse_implementation(self, implementation: str, why: str) -> None:
        """Raises ValueError if `self.implementation` is `implementation`; `why` says what it requires."""
        self.refuse_implementations((implementation,), why)

    def _choices(self, without=()):
        return ", ".join(repr(name) for name in ("auto", *self.IMPLEMENTATIONS) if name not in without)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "implementation": self.implementation}
