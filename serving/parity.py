"""Comparison of an exported model with the Keras network that it was made from."""

import dataclasses

import numpy as np

from convzoo.errors import ModelError

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


def compare(expected: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Parity:
    """Compares the outputs [images, ...] of an exported model with those of the network, by name.

    Raises:
        ModelError: Names or shapes of the outputs differ.

    Example:
        >>> parity = compare({"logits": np.array([[1.0, 0.0]])}, {"logits": np.array([[1.0, 0.1]])})
        >>> parity.top1, round(parity.largest["logits"], 3), round(parity.relative["logits"], 3)
        (1.0, 0.1, 0.1)
    """
    shapes = [{name: value.shape for name, value in some.items()} for some in (expected, outputs)]
    if shapes[0] != shapes[1]:
        raise ModelError(f"the exported model has the outputs {shapes[1]}, the network has {shapes[0]}")
    largest, relative = {}, {}
    for name, value in expected.items():
        if np.issubdtype(value.dtype, np.floating):
            difference = outputs[name].astype(np.float64) - value
            largest[name] = float(np.abs(difference).max())
            size = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
            error = np.sqrt(np.mean(np.square(difference)))
            relative[name] = float(error / size) if error else 0.0
    classes = [_classes(some) for some in (expected, outputs)]
    top1 = None if classes[0] is None else float(np.mean(classes[0] == classes[1]))
    return Parity(len(next(iter(expected.values()))), largest, relative, top1)


def _classes(outputs):
    """Returns the predicted classes; None for detections and embeddings."""
    if "logits" in outputs:
        return outputs["logits"].argmax(-1)
    classes = outputs.get("classes")
    return classes if classes is not None and np.issubdtype(classes.dtype, np.integer) else None
