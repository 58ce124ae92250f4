"""Types in the signatures of the layers."""

from collections.abc import Callable, Sequence
from typing import Any

Tensor = Any  # a KerasTensor or a tensor of the backend; these have no common base class
Size = Any  # of one axis: an integer, an integer tensor, or None if it is unknown
Shape = Sequence[Size]
Pair = int | Sequence[int]  # of the height and the width, or one number for both
Geometry = tuple[tuple[int, int], tuple[int, int], str, tuple[int, int]]  # kernel size, strides, padding, dilation rate
Initializer = str | dict | Callable | None
Activation = str | Callable | None
