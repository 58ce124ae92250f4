"""Metrics of a run: metrics.jsonl for programs, a progress bar or plain lines for people."""

import datetime
import functools
import json
import os
import sys
import time

import tensorflow as tf
import tqdm
from absl import logging

from convzoo.errors import ConfigError, WriteError, first_line
from convzoo.files import write_bytes, write_text

METRICS_FILE = "metrics.jsonl"
_INPUT_SHARE_SHOWN = 0.1  # progress shows the share of time spent waiting for input from here on


def raises_write_error(method):
    """Decorates what writes metrics: an error of the file system becomes a WriteError."""

    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except WriteError:
            raise
        except (tf.errors.OpError, OSError) as error:
            raise WriteError("metrics", first_line(error)) from error

    return wrapper


class MetricsWriter:
    """Writes scalars to metrics.jsonl, one JSON object a line with "step" first.

    Args:
        workdir: Folder of the run, local or gs://.
        first_step: Step from which the run resumes. Lines of later steps are dropped: an interrupted process wrote them
            after its last checkpoint, and those steps are made again.

    Raises:
        WriteError: Here and in all methods, where a file cannot be written.
    """

    @raises_write_error
    def __init__(self, workdir: str, first_step: int = 0):
        self._path = os.path.join(workdir, METRICS_FILE)
        lines, damaged = _parse(_read(self._path))
        if b"\n" in damaged:  # not only a line that a kill cut off
            kept = f"{self._path}.damaged_{int(time.time())}"
            write_bytes(kept, damaged)
            logging.warning("%s is damaged after %d lines; the rest was moved to %s", self._path, len(lines), kept)
        lines = [line for line in lines if line["step"] <= first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))

    @raises_write_error
    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line with the scalars of `step`."""
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")


def read_metrics(workdir: str) -> list[dict]:
    """Returns the lines of metrics.jsonl up to the first one that is damaged, as a kill leaves behind."""
    return _parse(_read(os.path.join(workdir, METRICS_FILE)))[0]


def _read(path):
    if not tf.io.gfile.exists(path):
        return b""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise ConfigError(f"cannot read {path!r} ({first_line(error)}); restore it or move it away") from error


def _parse(content):
    """Returns the lines as dicts with an int "step", up to the first that is not one, and the bytes from there on."""
    lines, parsed = [], 0
    *texts, _ = content.split(b"\n")  # what follows the last line break is no complete line
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):  # also of other encodings
            break
        if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
            break
        lines.append(line)
        parsed += len(text) + 1
    return lines, content[parsed:]


def without_times(line: dict) -> dict:
    """Returns a line of metrics.jsonl without its time measurements: two runs of one experiment share the rest."""
    return {
        name: value
        for name, value in line.items()
        if not name.startswith("time/") and name != "train/images_per_second"
    }


class ProgressDisplay:
    """Shows the progress of a run: a progress bar if the output is a terminal, otherwise plain lines.

    Args:
        first_step: Step from which the run starts.
        total_steps: Step at which it ends.
        output: Text stream, by default standard output.
        messages_only: Show messages and no progress, in workers that do not write.
    """

    def __init__(self, first_step: int, total_steps: int, output=None, messages_only: bool = False):
        self._output = output or sys.stdout
        self._total, self._messages_only = total_steps, messages_only
        self._bar = None
        if self._output.isatty() and not messages_only:
            self._bar = tqdm.tqdm(
                initial=first_step, total=total_steps, unit="step", file=self._output, dynamic_ncols=True
            )

    def message(self, text: str) -> None:
        """Shows a line of text."""
        if self._bar is None:
            print(text, file=self._output, flush=True)
        else:
            self._bar.write(text, file=self._output)

    def update(self, step: int, metrics: dict[str, float], seconds_left: float, input_share: float = 0.0) -> None:
        """Shows the training metrics of the steps up to `step`.

        Args:
            step: Number of steps made.
            metrics: "loss", further metrics as shares of 1 or with names that end in "_loss", "learning_rate" and
                "images_per_second".
            seconds_left: Estimated time to the end of the run.
            input_share: Share of the time spent waiting for input; shown if it is above a tenth.
        """
        if self._messages_only:
            return
        others = [name for name in metrics if name not in ("loss", "learning_rate", "images_per_second")]
        columns = [
            f"loss {metrics['loss']:.4f}",
            *(f"{name} {metrics[name]:{'.4f' if name.endswith('_loss') else '.2%'}}" for name in others),
            f"learning rate {metrics['learning_rate']:.3g}",
            f"images/s {metrics['images_per_second']:.0f}",
        ]
        if input_share > _INPUT_SHARE_SHOWN:
            columns.append(f"waiting for input {input_share:.0%}")
        text = "  ".join(columns)
        if self._bar is None:
            left = datetime.timedelta(seconds=round(seconds_left))
            print(f"step {step}/{self._total}  {text}  left {left}", file=self._output, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the progress bar."""
        if self._bar is not None:
            self._bar.close()
