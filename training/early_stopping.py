"""The end of a training whose evaluations do not improve."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from convzoo.errors import ConfigError

_PREFIX = "eval/"  # of the metrics of evaluation in metrics.jsonl


class EarlyStopping:
    """Decides after each evaluation whether the training ends, as Keras's `EarlyStopping` does after each epoch.

    Its state follows from the evaluations so far, so a resumed run reads it from metrics.jsonl.

    Args:
        settings: `config.early_stopping`.
        best_metric: The metric to monitor if the settings name none; higher is better.

    Example:
        >>> from convzoo.configs import base
        >>> settings = base.get_config().early_stopping
        >>> settings.patience, settings.monitor = 2, "loss"
        >>> stopping = EarlyStopping(settings, "top1")
        >>> for step, loss in ((10, 0.5), (20, 0.4), (30, 0.4), (40, 0.6)):
        ...     stopping.update(step, {"loss": loss})
        >>> stopping.reason
        'eval/loss is not below 0.4 of step 20 in the last 2 evaluations'
    """

    def __init__(self, settings: ml_collections.ConfigDict, best_metric: str):
        self._patience, self._min_delta = settings.patience, settings.min_delta
        self._monitor = settings.monitor or best_metric
        mode = settings.mode
        if mode == "auto":
            mode = "min" if self._monitor.endswith("loss") else "max"
        self._sign = 1 if mode == "max" else -1
        self._best = self._best_step = None
        self._wait = 0

    @property
    def reason(self) -> str | None:
        """Why the training ends; None if it goes on."""
        if self._patience is None or self._wait < self._patience:
            return None
        needed = f"{self._min_delta:g} " if self._min_delta else ""
        side = "above" if self._sign > 0 else "below"
        return (
            f"{_PREFIX}{self._monitor} is not {needed}{side} {self._best:.6g} of step {self._best_step} in the last "
            f"{self._wait} evaluations"
        )

    def update(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Counts an evaluation after `step` steps.

        Raises:
            ConfigError: The metrics do not contain the monitored one.
        """
        if self._patience is None:
            return
        value = metrics.get(self._monitor)
        if not isinstance(value, int | float):
            names = sorted(name for name, value in metrics.items() if isinstance(value, float))
            raise ConfigError(
                f"config.early_stopping.monitor={self._monitor!r} is not a metric of this evaluation; use one of "
                f"{', '.join(names)}"
            )
        if self._best is None or self._sign * (value - self._best) > self._min_delta:
            self._best, self._best_step, self._wait = value, step, 0
        else:
            self._wait += 1

    def replay(self, lines: Iterable[Mapping[str, Any]], last_step: int) -> None:
        """Counts the evaluations until `last_step` in the lines of metrics.jsonl."""
        for line in lines:
            metrics = {name.removeprefix(_PREFIX): value for name, value in line.items() if name.startswith(_PREFIX)}
            if self._monitor in metrics and line["step"] <= last_step:
                self.update(line["step"], metrics)
