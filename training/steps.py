"""Many training steps in one call, without the host."""

import tensorflow as tf

from convzoo.training.step import TrainStep


class Steps:
    """Compiles a loop over training steps, and adds their metrics up on the devices.

    Args:
        strategy: The replicas'.
        step: One step of one replica.
        iterations: The optimiser's count of steps.
        times_input: Whether the wait for examples is measured: TensorFlow lets no clock be read in a deterministic run.
    """

    def __init__(self, strategy: tf.distribute.Strategy, step: TrainStep, iterations: tf.Variable, times_input: bool):
        self._strategy, self._step, self._iterations, self._times_input = strategy, step, iterations, times_input
        self._compiled = tf.function(self._loop)

    def __call__(self, iterator, steps: int, sums: dict) -> tuple[dict, int, float]:
        """Makes `steps` steps on the next batches of a distributed iterator.

        Args:
            iterator: Of the strategy's distributed data set.
            steps: At least 1.
            sums: `no_sums()`, or what an earlier call returned.

        Returns:
            `sums` with those of all examples of the steps, "loss" and "correct"; the first step, from 0, whose loss
            was not finite, or -1; the seconds that were waited for examples.
        """
        sums, bad_step, waited = self._compiled(iterator, tf.constant(steps), sums)
        return sums, int(bad_step), float(waited)

    def _loop(self, iterator, steps, sums):
        bad_step = tf.constant(-1, tf.int64)
        waited, ended = tf.constant(0.0, tf.float64), self._time_of([])
        for _ in tf.range(steps):
            step = tf.cast(self._iterations.read_value(), tf.int64)
            batch = next(iterator)
            # From the end of a step to the next batch, if that was not there first. Neither reading of the clock is
            # waited for: batches are fetched while a step runs, and a device has the next step in its queue.
            waited += tf.maximum(self._time_of(self._strategy.experimental_local_results(batch["label"])) - ended, 0.0)
            of_replicas = self._strategy.run(self._step, args=(batch,))
            of_step = {
                name: self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                for name, value in of_replicas.items()
            }
            ended = self._time_of(of_step.values())
            sums = {name: sums[name] + of_step[name] for name in sums}
            first = tf.logical_and(bad_step < 0, tf.logical_not(tf.math.is_finite(of_step["loss"])))
            bad_step = tf.where(first, step, bad_step)
        return sums, bad_step, waited

    def _time_of(self, tensors):
        """The time in seconds when the tensors were there."""
        if not self._times_input:
            return tf.constant(0.0, tf.float64)
        with tf.control_dependencies(tf.nest.flatten(list(tensors))):
            return tf.timestamp()


def no_sums() -> dict[str, tf.Tensor]:
    """What `Steps` adds to where nothing was added up yet."""
    return {"loss": tf.zeros([]), "correct": tf.zeros([])}
