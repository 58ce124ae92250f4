"""Comparison of an exported model with the Keras network that it was made from."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from convzoo.errors import ModelError
from convzoo.serving.outputs import split_batches

_Function = Callable[[np.ndarray], dict[str, Any]]

# By quantization: largest relative difference, and lowest top-1 agreement.
LIMITS = {"none": (1e-3, 0.99), "float16": (0.03, 0.95), "int8": (0.3, 0.8)}


@dataclasses.dataclass(frozen=True)
class Parity:
    """How the outputs of an exported model differ from those of the network.

    Attributes:
        num_images: Number of images that were compared.
        largest: Largest absolute difference of each output of floats.
        relative: Root mean square of the differences of each output over that of the network's values. Other than the
            largest difference, it depends little on one pixel of a DRConv that changes its region by rounding.
        top1: Share of images (of pixels for segmentation) with the same class; None for outputs without classes.
    """

    num_images: int
    largest: dict[str, float]
    relative: dict[str, float]
    top1: float | None

    def __str__(self):
        differences = ", ".join(f"{name} {value:.1e}" for name, value in self.largest.items())
        top1 = "" if self.top1 is None else f"top-1 agreement {self.top1:.2%}, "
        return f"{self.num_images} images: {top1}largest difference of {differences}"

    def check(self, quantize: str, tolerance: float | None = None, min_agreement: float | None = None) -> None:
        """Raises ModelError unless every relative difference and the top-1 agreement are within their limits.

        Args:
            quantize: Key of `LIMITS`.
            tolerance: Largest relative difference; None for that of `LIMITS`.
            min_agreement: Lowest top-1 agreement; None for that of `LIMITS`.

        Example:
            >>> Parity(8, {"logits": 0.5}, {"logits": 0.1}, 1.0).check("none")
            Traceback (most recent call last):
            convzoo.errors.ModelError: the exported model differs from the network: ...
        """
        limits = zip((tolerance, min_agreement), LIMITS[quantize], strict=True)
        tolerance, min_agreement = (default if value is None else value for value, default in limits)
        name = max(self.relative, key=lambda name: np.nan_to_num(self.relative[name], nan=np.inf))
        value = self.relative[name]
        reason = None
        if not value <= tolerance:  # NaN too
            reason = f"relative difference {value:.1e} of {name}, above the tolerance {tolerance:g}"
        elif self.top1 is not None and self.top1 < min_agreement:
            reason = f"top-1 agreement {self.top1:.2%}, below the minimum {min_agreement:.2%}"
        if reason:
            advice = "allow more, or export without quantization" if quantize != "none" else "report this as a bug"
            raise ModelError(f"the exported model differs from the network: {reason} ({self}); {advice}")


def compare(network: _Function, exported: _Function, images: np.ndarray) -> Parity:
    """Compares the outputs of an exported model with those of the network, a batch at a time.

    Args:
        network, exported: Functions of images [batch, ...] that return outputs [batch, ...] by name.
        images: At least one image [images, ...].

    Raises:
        ModelError: Names or shapes of the outputs differ, or those of the network are not finite.

    Example:
        >>> network = lambda images: {"logits": np.array([[1.0, 0.0]])}
        >>> exported = lambda images: {"logits": np.array([[1.0, 0.1]])}
        >>> parity = compare(network, exported, np.zeros((1, 8, 8, 3), np.uint8))
        >>> parity.top1, round(parity.largest["logits"], 3), round(parity.relative["logits"], 3)
        (1.0, 0.1, 0.1)
    """
    largest, squares = {}, {}
    matches = []
    for batch in split_batches(images):
        expected, outputs = (
            {name: np.asarray(value) for name, value in function(batch).items()} for function in (network, exported)
        )
        shapes = [{name: value.shape for name, value in some.items()} for some in (expected, outputs)]
        if shapes[0] != shapes[1]:
            raise ModelError(f"the exported model has the outputs {shapes[1]}, the network has {shapes[0]}")
        for name, value in expected.items():
            if not np.issubdtype(value.dtype, np.floating):
                continue
            if not np.isfinite(value).all():
                raise ModelError(f"the output {name} of the network is not finite; use another checkpoint")
            difference = outputs[name].astype(np.float64) - value
            # np.maximum keeps NaN.
            largest[name] = float(np.maximum(largest.get(name, 0.0), np.abs(difference).max()))
            totals = np.square(difference).sum(), np.square(value, dtype=np.float64).sum()
            squares[name] = np.add(squares.get(name, (0.0, 0.0)), totals)
        classes = [_classes(some) for some in (expected, outputs)]
        if classes[0] is not None:
            matches.append((np.count_nonzero(classes[0] == classes[1]), classes[0].size))
    relative = {}
    for name, (error, size) in squares.items():
        relative[name] = 0.0 if error == 0.0 else float(np.sqrt(error / size)) if size else np.inf
    top1 = float(np.divide(*np.sum(matches, axis=0))) if matches else None
    return Parity(len(images), largest, relative, top1)


def _classes(outputs):
    """Returns the predicted classes; None for detections and embeddings."""
    if "logits" in outputs:
        return outputs["logits"].argmax(-1)
    classes = outputs.get("classes")
    return classes if classes is not None and np.issubdtype(classes.dtype, np.integer) else None
