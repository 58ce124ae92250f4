"""The training loop: many steps for each look of the host, evaluation, checkpoints, records."""

import contextlib
import json
import os
import sys
import time
import zlib

import keras
import ml_collections
import tensorflow as tf

from convzoo import data
from convzoo.models.regions import masks
from convzoo.training import checkpoints, classes, experiment, fine_tuning, lock, tasks
from convzoo.training.agenda import Agenda
from convzoo.training.batch_norm import StatisticsAverage
from convzoo.training.clock import RunClock
from convzoo.training.config import ConfigError, claim, first_line, load_start, validate
from convzoo.training.devices import Devices
from convzoo.training.evaluation import Evaluator
from convzoo.training.files import NotWrittenError
from convzoo.training.optimizers import make_schedule
from convzoo.training.profile import Profile
from convzoo.training.records import MetricsWriter, NoMetrics, Progress, read_metrics
from convzoo.training.regions import ALMOST_ALL, RegionMaps
from convzoo.training.replica import build_replica
from convzoo.training.seeds import differ_by_replica
from convzoo.training.signals import Interrupted, StopRequest
from convzoo.training.steps import Steps, no_sums

# What TensorFlow raises in the other workers when one ends or does not answer.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class TrainingError(RuntimeError):
    """The training cannot go on, now or ever: one line with the metric and the step. `status` is the program's."""

    status = 3


class UnwritableError(TrainingError):
    """What a training has to say or to save cannot be written: it can go on when there is room."""

    status = 1


class WorkerLostError(TrainingError):
    """Another worker of the cluster is gone: all of them can go on together."""

    status = 1


class ServerLostError(TrainingError):
    """A data server is gone, or was started anew: the training can go on when it is there."""

    status = 1


def train(
    config: ml_collections.ConfigDict,
    workdir: str,
    devices: Devices,
    evaluate: bool = True,
    profile: tuple[int, int] | None = None,
) -> None:
    """Trains an experiment: from the newest checkpoint of `workdir`, else from config.init.weights, else from chance.

    Args:
        config: The experiment, with the fields of configs/base.py.
        workdir: Where everything is written, local or gs://; one folder that all workers see.
        devices: The connected devices.
        evaluate: Whether to evaluate in between and keep the best checkpoint.
        profile: The steps (from, to) of a TensorBoard profile, or None for none.

    Raises:
        ConfigError, data.DataError, models.ModelError: The experiment cannot be run as it is written.
        TrainingError: The loss is not finite any more. Of its kind: UnwritableError, the disk is full; WorkerLostError,
            another worker is gone; ServerLostError, a data server is.
        Interrupted: SIGTERM or SIGINT asked it to stop; it has saved what there was.
    """
    # Everything that can be wrong with the experiment is found before anything is written.
    validate(config, devices.num_replicas)
    if checkpoints.saved(workdir):
        # What the run started from need not be there any more.
        start, overrides = None, load_start(workdir).get("overrides", {})
    else:
        start = fine_tuning.find_start(config)
        overrides = start.overrides if start else {}
    config, taken = fine_tuning.with_overrides(config, overrides)
    with _lost_workers_told(devices, workdir), _lost_servers_told(config.data.service, workdir), data.input_errors():
        _check_alike(config, evaluate, profile, devices)
        _train(config, workdir, devices, evaluate, profile, start, taken)


def _train(config, workdir, devices, evaluate, profile, start, taken):
    source = experiment.open_source(config)
    steps_per_epoch = source.num_examples(config.data.train_split) / config.batch_size
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    run = _Run(config, workdir, devices, source, steps_per_epoch, evaluate, start, taken, profile)
    with lock.held(workdir) if devices.is_chief else contextlib.nullcontext():
        run.run()


def _check_alike(config, evaluate, profile, devices):
    """Refuses workers that were started differently: they would wait for each other at different places."""
    told = config.to_dict()
    del told["data"]["data_dir"]  # where each machine has its data is its own matter
    number = zlib.crc32(json.dumps([told, evaluate, profile], sort_keys=True).encode())
    if devices.largest([number, -number]) != [number, -number]:
        raise ConfigError("the workers were started with different configs or flags; give all of them the same")


@contextlib.contextmanager
def _lost_workers_told(devices, workdir):
    try:
        yield
    except _LOST as error:
        if devices.num_workers == 1:
            raise
        path = checkpoints.newest(workdir)
        raise WorkerLostError(
            f"another worker is gone ({type(error).__name__}: {first_line(error)}); start all workers again, and the "
            f"training goes on from {path or 'its beginning'}"
        ) from error


@contextlib.contextmanager
def _lost_servers_told(service, workdir):
    def told(addresses):
        path = checkpoints.newest(workdir)
        return (
            f"data server {', '.join(addresses)} does not answer any more; start it again, and the same command goes "
            f"on from {path or 'the beginning'}"
        )

    def end(address):
        # The step waits in TensorFlow for its next batch, and nothing but its end would end that.
        print(told([address]), file=sys.stderr, flush=True)
        os._exit(ServerLostError.status)

    try:
        with data.watched_servers(service, end):
            yield
    except (*_LOST, tf.errors.NotFoundError) as error:
        if silent := data.silent_servers(service):
            raise ServerLostError(told(silent)) from error
        if service is None or "a dispatcher restart" not in str(error):
            raise
        path = checkpoints.newest(workdir)
        raise ServerLostError(
            f"a data server of {service} was started anew, without the data sets of this training; the same command "
            f"goes on from {path or 'the beginning'}"
        ) from error


class _Run:
    def __init__(self, config, workdir, devices, source, steps_per_epoch, evaluate, start, taken, profile):
        self._config, self._workdir, self._devices, self._source = config, workdir, devices, source
        self._start, self._taken = start, taken
        self._strategy = devices.strategy
        self._total_steps = experiment.total_steps(config, steps_per_epoch)
        self._profile = Profile(workdir, *profile, writes=devices.is_chief) if profile else None
        if not self._total_steps:
            raise ConfigError(
                f"config.epochs {config.epochs} is less than one step of batch_size {config.batch_size}; raise it"
            )
        if self._profile and self._profile.stops[1] > self._total_steps:
            raise ConfigError(
                f"--profile ends at step {self._profile.stops[1]} and the training at {self._total_steps}; choose "
                "earlier steps"
            )

        def in_loops(epochs):
            # Whole loops, so that every log line tells of as many steps.
            return max(1, round(epochs * steps_per_epoch / config.steps_per_loop)) * config.steps_per_loop

        self._eval_every = in_loops(config.eval_every_epochs) if evaluate else None
        self._save_every = in_loops(config.checkpoint_every_epochs)
        self._schedule = make_schedule(config, self._total_steps, steps_per_epoch)
        self._inputs = experiment.eval_settings(config)
        self._task = tasks.of(config)
        self._check_inputs(evaluate)
        with self._strategy.scope():
            self._build(evaluate)
        self._iterations = self._replica.optimizer.iterations.value
        self._steps = Steps(self._strategy, self._replica.step, self._iterations, times_input=not config.deterministic)

    def _check_inputs(self, evaluate):
        """Makes the data sets once and throws them away, because that is where a wrong setting is found."""
        classes.check_names(self._source.class_names)
        data.check_servers(self._config.data.service)
        self._dataset(tf.distribute.InputContext(num_replicas_in_sync=self._devices.num_replicas), 0)
        data.check_pictures(self._source, self._config.data.train_split, self._config.data.service)
        if evaluate:
            data.eval_dataset(self._source, self._config.data.eval_split, batch_size=1, **self._inputs)

    def _build(self, evaluate):
        config, num_classes = self._config, self._source.num_classes
        replica = build_replica(config, num_classes, self._schedule, self._devices.num_replicas, self._start)
        self._replica, self._model, self._average = replica, replica.model, replica.average
        self._average_statistics = (
            StatisticsAverage(self._model, self._average, self._strategy) if replica.statistics_differ else None
        )
        self._evaluator = None
        if evaluate:
            model = experiment.build_model(config, num_classes)
            self._evaluator = Evaluator(model, self._strategy, self._task, self._devices.makes_batches)
            self._region_maps = RegionMaps(model, self._strategy)

    def _state(self):
        optimizer = {variable.path.split("/", 1)[1]: variable.value for variable in self._replica.optimizer.variables}
        return {
            **checkpoints.prefixed("model", checkpoints.model_variables(self._model)),
            **checkpoints.prefixed("optimizer", optimizer),
            **checkpoints.prefixed("ema", self._average.variables if self._average else {}),
        }

    def run(self):
        """Trains to the last step. The workdir is this cluster's alone."""
        devices = self._devices
        # Claimed only now that the network and its inputs are known to be possible.
        start = {"weights": self._start.path, "overrides": self._taken} if self._start else None
        if devices.is_chief:
            claim(self._config, self._workdir, start)
            classes.keep(self._workdir, self._source.class_names)
        self._checkpoints = checkpoints.Checkpoints(
            self._workdir, self._state(), self._config.keep_checkpoints, writes=devices.is_chief
        )
        path, complaints = self._checkpoints.restore_newest()
        if complaints and path is None:
            raise ConfigError(
                f"no checkpoint of {self._workdir!r} is whole ({complaints[0]}); restore one or change --workdir"
            )
        differ_by_replica(self._model, self._strategy)
        step = self._settled = int(self._iterations.numpy())
        if devices.largest([step, -step]) != [step, -step]:
            raise ConfigError(
                f"this worker goes on from step {step} and another from a different one; --workdir={self._workdir} has "
                "to be one folder that all workers see"
            )
        if not devices.is_chief:
            claim(self._config, self._workdir, start)  # the chief's: it only finds whether this worker's is the same
            classes.check(self._workdir, self._source.class_names)
        self._agenda = Agenda(
            step,
            self._total_steps,
            self._config.steps_per_loop,
            self._save_every,
            self._eval_every,
            also=self._profile.stops if self._profile else (),
        )
        hours = [line["time/device_hours"] for line in read_metrics(self._workdir) if "time/device_hours" in line]
        self._clock = RunClock(devices.num_replicas, hours[-1] if hours else 0.0)
        self._saving, self._saved_at = step, time.monotonic()
        # Of the steps since metrics were written.
        self._sums, self._unwritten = no_sums(), 0
        progress = Progress(step, self._total_steps, quiet=not devices.is_chief)
        self._tell_opening(progress, path, complaints, step)
        iterator = iter(self._strategy.distribute_datasets_from_function(lambda context: self._dataset(context, step)))
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.closing(self._checkpoints))
                if self._profile:
                    stack.enter_context(contextlib.closing(self._profile))
                stop = stack.enter_context(StopRequest())
                writer = MetricsWriter(self._workdir, step) if devices.is_chief else NoMetrics()
                while step < self._total_steps:
                    step = self._advance(step, iterator, writer, progress)
                    if step < self._total_steps and not self._unwritten:
                        self._see_to_orders(step, stop)
                self._checkpoints.wait()
                devices.largest([0])  # none ends well before what was trained is written
        except NotWrittenError as error:
            raise UnwritableError(
                f"the {error.what} cannot be written ({error}); what was saved is whole: make room, and the same "
                f"command goes on from step {self._saved}"
            ) from error
        except KeyboardInterrupt:
            progress.say(f"interrupted at step {step}; the same command goes on from step {self._saved}")
            raise
        finally:
            progress.close()

    def _tell_opening(self, progress, path, complaints, step):
        for complaint in complaints:
            progress.say(f"{complaint}: passed over")
        progress.say(self._opening(path, step))
        if self._profile and self._profile.stops[0] <= step < self._total_steps:
            progress.say(f"no profile: it would begin at step {self._profile.stops[0]}, which was made before")
        if not self._evaluator and masks(self._model):
            progress.say("maps of regions are drawn with evaluations: of this run, scripts/draw_regions.py draws them")
        if self._replica.loaded:
            taken = f"; taken over to config.model.overrides: {', '.join(self._taken)}" if self._taken else ""
            progress.say(f"{self._replica.loaded}{taken}")
        if part := fine_tuning.describe(self._model, self._replica.frozen, self._config.init.body_rate):
            progress.say(part)

    def _see_to_orders(self, step, stop):
        """Saves if it is time, or if a worker was asked to stop; then raises Interrupted on all of them."""
        minutes = self._config.checkpoint_every_minutes
        due = minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        number, due = self._devices.largest([stop.number or 0, int(due)])
        if number or due:
            self._save(step)
        if number:
            self._checkpoints.wait()
            self._devices.largest([0])  # all wait for the one that writes
            raise Interrupted(number)

    def _advance(self, step, iterator, writer, progress):
        """Trains up to the next event and sees to it; returns the step reached."""
        start = time.perf_counter()
        upto, is_line = self._agenda.next_stop(step)
        with self._profile.marks(upto) if self._profile else contextlib.nullcontext():
            sums, bad_step, waited = self._steps(iterator, upto - step, self._sums)
        self._checkpoints.look()
        self._unwritten += upto - step
        if bad_step >= 0:
            raise TrainingError(
                f"train/loss is not finite at step {bad_step + 1} (learning rate {self._rate(bad_step):.3g}); "
                f"{self._advice()}"
            )
        means = {name: float(value) / (self._unwritten * self._config.batch_size) for name, value in sums.items()}
        seconds = time.perf_counter() - start
        self._clock.add("input", waited)
        times = self._clock.scalars(upto - step, seconds, self._config.batch_size, self._total_steps - upto)
        scalars = {
            "loss": means["loss"],
            "accuracy": means["correct"],
            "learning_rate": self._rate(upto - 1),
            "images_per_second": (upto - step) * self._config.batch_size / seconds,
        }
        if self._config.deterministic:
            del times["input_share"]  # was not measured
        progress.train(upto, scalars, 3600 * times["hours_left"], waited / seconds)
        if self._profile and (told := self._profile.look(upto)):
            progress.say(told)
        if not is_line:
            self._sums = sums
            return upto
        self._sums, self._unwritten = no_sums(), 0
        writer.write(upto, {**_under("train", scalars), **_under("time", times)})
        if self._agenda.evaluates(upto):
            self._settle(upto)
            with self._clock.spends("evaluate"):
                self._evaluate(upto, writer, progress)
        if self._agenda.saves(upto):
            self._save(upto)
        return upto

    def _settle(self, step):
        """Makes the state fit to be evaluated and saved, or raises."""
        if self._settled == step:
            return
        if self._average_statistics:
            self._average_statistics()
        if not self._checkpoints.are_finite():
            # The loss is that before the update: the last update can have lost the network all the same.
            raise TrainingError(f"the weights are not finite after step {step}; {self._advice()}")
        self._settled = step

    def _save(self, step):
        if self._saving == step:
            return
        self._settle(step)
        with self._clock.spends("save"):
            self._checkpoints.save(step)
        self._saving, self._saved_at = step, time.monotonic()

    @property
    def _saved(self):
        return self._checkpoints.saved_step or 0

    def _advice(self):
        self._checkpoints.wait()
        return (
            f"nothing later than step {self._saved} is saved; lower config.optimizer.learning_rate or set "
            "config.clip_norm"
        )

    def _rate(self, step):
        return float(self._schedule(step))

    def _opening(self, path, step):
        devices, config = self._devices, self._config
        begin = f"going on from {path}, step {step}" if path else "starting at step 0"
        if step >= self._total_steps:
            begin = f"{path} is complete at step {step}; raise config.epochs in a new workdir to train longer"
        return (
            f"{devices.num_replicas} x {devices.kind} ({devices.reason}), "
            f"{config.batch_size // devices.num_replicas} examples on each; "
            f"{config.model.name} on {config.data.source}, {self._total_steps} steps; {begin}"
        )

    def _evaluate(self, step, writer, progress):
        kind = "ema" if self._average else "raw"
        self._evaluator.take(
            self._average.variables if self._average else {weight.path: weight.value for weight in self._model.weights}
        )
        split = self._config.data.eval_split
        figures = self._evaluator.evaluate(
            self._source,
            split,
            batch_size=self._config.eval_batch_size or self._config.batch_size,
            **self._inputs,
        )
        writer.write(step, _under("eval", figures))
        is_best = self._checkpoints.save_if_best(step, self._task.best, figures[self._task.best])
        columns = self._task.columns(figures).items()
        told = "  ".join(f"{name.replace(' %', '')} {text}{'%' * name.endswith('%')}" for name, text in columns)
        progress.say(
            f"step {step}  evaluated on {split} ({figures['examples']} examples, {kind} weights): "
            f"{told}{'  (best so far)' if is_best else ''}"
        )
        if self._region_maps.regions:
            scalars, drawing, alone = self._region_maps.watch(self._source, split, self._inputs)
            writer.show(step, scalars, {"regions": drawing})
            if alone:
                progress.say(
                    f"step {step}  one region takes over {ALMOST_ALL:.0%} of the pixels in {', '.join(alone)}: the "
                    "others do nothing there"
                )

    def _dataset(self, context, first_step):
        config = self._config
        return data.train_dataset(
            self._source,
            config.data.train_split,
            batch_size=context.get_per_replica_batch_size(config.batch_size),
            first_example=first_step * config.batch_size,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            counts_broken=self._devices.makes_batches(context),
            **experiment.train_settings(config),
        )


def _under(room, scalars):
    return {f"{room}/{name}": value for name, value in scalars.items()}
