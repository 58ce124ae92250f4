"""Functions of the user that a training calls after each log, evaluation and checkpoint."""

import dataclasses
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Literal

import keras

from convzoo.errors import ConfigError, UserError, first_line


@dataclasses.dataclass(frozen=True)
class Event:
    """What a callback receives. Every worker calls the callbacks.

    Attributes:
        kind: "log" after a line of training metrics, "evaluation", or "checkpoint" when its files are complete.
        step: Number of steps made.
        metrics: "log" and "evaluation": the metrics just logged, such as "train/loss" and "eval/top1". "checkpoint":
            the newest value of every metric that this process has logged.
        workdir: Folder of the run, local or gs://.
        model: The network that is trained; for "evaluation" the network that was evaluated, with the moving average if
            there is one.
        is_chief: True in the one worker that writes files.
    """

    kind: Literal["log", "evaluation", "checkpoint"]
    step: int
    metrics: dict[str, float]
    workdir: str
    model: keras.Model
    is_chief: bool


class Callbacks:
    """The functions that `config.callbacks` names.

    Args:
        names: Functions of an `Event`, as "package.module:function". Modules are also found in the current folder.

    Raises:
        ConfigError: A name cannot be imported or is no function.

    Example:
        >>> Callbacks(("my_module",))
        Traceback (most recent call last):
        convzoo.errors.ConfigError: config.callbacks: 'my_module' has no ':'; use package.module:function
    """

    def __init__(self, names: Sequence[str]):
        self._functions = {name: _resolve(name) for name in names}

    def __bool__(self) -> bool:
        return bool(self._functions)

    def __call__(self, event: Event) -> None:
        """Calls the functions in order.

        Raises:
            UserError: A function raised it, to end the run with one line.
            RuntimeError: A function raised another exception, which is the cause.
        """
        for name, function in self._functions.items():
            try:
                function(event)
            except UserError:
                raise
            except Exception as error:
                raise RuntimeError(f"the callback {name} failed after the {event.kind} of step {event.step}") from error


def _resolve(name: str) -> Callable[[Event], None]:
    if ":" not in name:
        raise ConfigError(f"config.callbacks: {name!r} has no ':'; use package.module:function")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # the installed command `convzoo` has its own folder there
    try:
        function = pkgutil.resolve_name(name)
    except Exception as error:  # also of the module
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"config.callbacks: {name!r} cannot be imported ({reason}); correct it") from error
    if not callable(function):
        raise ConfigError(f"config.callbacks: {name!r} is {type(function).__name__}, not a function; correct it")
    return function
