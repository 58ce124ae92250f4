"""What a run tells: metrics.jsonl and TensorBoard for programs, a progress bar or plain lines for people."""

import datetime
import functools
import json
import os
import sys

import tensorflow as tf
import tqdm

from convzoo.training.config import first_line
from convzoo.training.files import NotWrittenError, read_text, write_text

METRICS_FILE = "metrics.jsonl"
_SLOW_INPUT = 0.1  # of the time; a person is told of more


def _told(method):
    """Turns what TensorFlow and Python raise where a disk is full into one error."""

    @functools.wraps(method)
    def guarded(*arguments, **settings):
        try:
            return method(*arguments, **settings)
        except (tf.errors.OpError, OSError) as error:
            raise NotWrittenError("metrics", first_line(error)) from error

    return guarded


class MetricsWriter:
    """Writes scalars to metrics.jsonl, one object a line with "step" first, and to TensorBoard.

    Args:
        workdir: The run's folder, local or gs://.
        first_step: The step that the run goes on from. Lines of later steps are of a run that ended before it could
            save them: they are dropped, because those steps are made again.

    Raises:
        NotWrittenError: Here and in `write` and `show`.
    """

    @_told
    def __init__(self, workdir: str, first_step: int = 0):
        self._path = os.path.join(workdir, METRICS_FILE)
        self._board = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard"))
        kept = [line for line in read_metrics(workdir) if line["step"] <= first_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    @_told
    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one line with the scalars of `step`."""
        with tf.io.gfile.GFile(self._path, "a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        with self._board.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step)
        self._board.flush()

    @_told
    def show(self, step: int, scalars: dict[str, float], pictures: dict[str, bytes]) -> None:
        """Writes scalars, and pictures as PNG files, to TensorBoard alone: what only people look at."""
        with self._board.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step)
            for name, png in pictures.items():
                tf.summary.image(name, tf.image.decode_png(png, channels=3)[tf.newaxis], step)
        self._board.flush()


class NoMetrics:
    """A MetricsWriter for all workers but the one that writes."""

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Does nothing."""

    def show(self, step: int, scalars: dict[str, float], pictures: dict[str, bytes]) -> None:
        """Does nothing."""


def read_metrics(workdir: str) -> list[dict]:
    """The lines of `workdir`'s metrics.jsonl; a last line that a killed run left unfinished is passed over."""
    path = os.path.join(workdir, METRICS_FILE)
    if not tf.io.gfile.exists(path):
        return []
    lines = []
    for text in read_text(path).splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def without_times(line: dict) -> dict:
    """A line of metrics.jsonl without what a clock said: two runs of one experiment have the rest in common."""
    return {
        name: value
        for name, value in line.items()
        if not name.startswith("time/") and name != "train/images_per_second"
    }


class Progress:
    """Shows a run to a person: a progress bar where the output is a terminal, plain lines elsewhere.

    Args:
        first_step: Step that the run starts from.
        total_steps: Step that it ends at.
        output: Text stream, by default standard output.
        quiet: Shows what is said, and not how far the run is: for workers beside the one that writes.
    """

    def __init__(self, first_step: int, total_steps: int, output=None, quiet: bool = False):
        self._output = output or sys.stdout
        self._total, self._quiet = total_steps, quiet
        self._bar = None
        if self._output.isatty() and not quiet:
            self._bar = tqdm.tqdm(
                initial=first_step, total=total_steps, unit="step", file=self._output, dynamic_ncols=True
            )

    def say(self, text: str) -> None:
        """Shows one line of text."""
        if self._bar is None:
            print(text, file=self._output, flush=True)
        else:
            self._bar.write(text, file=self._output)

    def train(self, step: int, scalars: dict[str, float], seconds_left: float, waited: float = 0.0) -> None:
        """Shows the scalars of the steps up to `step`, and if it matters `waited`, the share of time without input."""
        if self._quiet:
            return
        shown = (
            f"loss {scalars['loss']:.4f}  accuracy {scalars['accuracy']:.2%}  "
            f"learning rate {scalars['learning_rate']:.3g}  images/s {scalars['images_per_second']:.0f}"
        )
        if waited > _SLOW_INPUT:
            shown += f"  waiting for input {waited:.0%}"
        if self._bar is None:
            left = datetime.timedelta(seconds=round(seconds_left))
            print(f"step {step}/{self._total}  {shown}  left {left}", file=self._output, flush=True)
        else:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the display."""
        if self._bar is not None:
            self._bar.close()
