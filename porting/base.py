"""What a source of weights is."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from convzoo.porting.layouts import Layout
from convzoo.porting.naming import Naming


@dataclasses.dataclass(frozen=True)
class Source:
    """Somebody else's implementation, and how its weights become ours.

    Attributes:
        title: The implementation, for people.
        read: (path, ema) -> ({variable: float32 array}, number of variables left aside). With `ema` the moving
            averages take the place of the weights. What is no weight (optimizer slots, counters) is left aside.
        layout: Names of a layer's variables and the order of their axes.
        namings: Naming of each family of networks that the source has.
        implied: Name of our network -> the overrides that this source's weights need.
        divide: {variable: array} -> the same with variables divided where ours are several.
        doubt: (name of our network, its overrides) -> what the weights cannot tell and was assumed; or nothing.
    """

    title: str
    read: Callable[[str, bool], tuple[dict[str, np.ndarray], int]]
    layout: Layout
    namings: Mapping[str, Naming]
    implied: Callable[[str], dict] = lambda name: {}
    divide: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = lambda values: values
    doubt: Callable[[str, dict], str] = lambda name, overrides: ""
