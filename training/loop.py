"""The training program: build, restore, loop, evaluate, save."""

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
from convzoo.configs.schema import validate
from convzoo.errors import ConfigError, TrainingError, UnavailableError, WriteError, first_line
from convzoo.files import check_no_pattern
from convzoo.models.region_masks import masks
from convzoo.tasks import Detection, get_task
from convzoo.training import checkpoints, experiment, fine_tuning, workdir
from convzoo.training.batch_norm import StatisticsAverage, fuse_batch_norm
from convzoo.training.callbacks import Callbacks, Event
from convzoo.training.checkpoint_manager import CheckpointManager
from convzoo.training.devices import Devices
from convzoo.training.early_stopping import EarlyStopping
from convzoo.training.evaluation import Evaluator
from convzoo.training.inspection import Detections, RegionMaps, RoutingWeights
from convzoo.training.intervals import Intervals
from convzoo.training.memory import check_memory
from convzoo.training.metrics import MetricsWriter, ProgressDisplay, read_metrics
from convzoo.training.norms import norm_names
from convzoo.training.profile import Profile
from convzoo.training.schedules import make_schedule
from convzoo.training.signals import Interrupted, StopRequest
from convzoo.training.state import build_train_state, decorrelate_replica_seeds
from convzoo.training.timer import RunTimer
from convzoo.training.trackers import check_installed, start_trackers
from convzoo.training.train_step import MultiStep, initial_sums, step_settings

# Errors that TensorFlow raises in the remaining workers when one ends or stops answering.
_LOST_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def train(
    config: ml_collections.ConfigDict,
    folder: str,
    devices: Devices,
    evaluate: bool = True,
    profile: tuple[int, int] | None = None,
) -> None:
    """Trains the experiment in the workdir `folder`.

    Starts from its newest checkpoint, else from `config.init.weights`, else from random initialization.

    Args:
        config: The config, with the fields of configs/fields.py.
        folder: Workdir of the run, local or gs://; all workers must see the same folder.
        devices: The connected devices.
        evaluate: Whether to evaluate during training and to keep the best checkpoint.
        profile: First and last step of a TensorBoard profile; None for no profile.

    Raises:
        ConfigError, DataError, ModelError: The experiment is invalid. If that is found before training starts, a new
            run has written nothing into its folder; preparing a dataset may have written to `config.data.data_dir`. A
            running training ends with DataError if too many images are corrupt; its checkpoints are kept.
        TrainingError: The loss or the weights are not finite.
        UnavailableError: The disk is full, or another worker or a data server is lost. The run can be resumed.
        Interrupted: SIGTERM or SIGINT stopped the run, which has saved a checkpoint.
    """
    validate(config, devices.num_replicas)
    check_no_pattern(folder, "--workdir")
    config, initialization, added_overrides = _find_initial_weights(config, folder)
    with (
        _report_lost_workers(devices, folder),
        _report_lost_servers(config.data.service, folder),
        data.reraise_data_errors(),
    ):
        _check_workers_agree(config, evaluate, profile, devices)
        run = _Run(config, folder, devices, evaluate, profile)
        run.build(initialization, added_overrides)
        with workdir.lock_workdir(folder) if devices.is_chief else contextlib.nullcontext():
            run.save_identity()
            run.restore()
            run.loop()


def _find_initial_weights(config, folder):
    """Returns the config with the overrides of the initial weights, the weights, and the overrides they added."""
    # The weights that a resumed run started from need not exist any more.
    if checkpoints.list_checkpoints(folder) or checkpoints.best(folder):
        initialization, overrides = None, workdir.load_initialization(folder).get("overrides", {})
    else:
        initialization = fine_tuning.find_initialization(config)
        overrides = initialization.overrides if initialization else {}
    config, added = fine_tuning.with_overrides(config, overrides)
    return config, initialization, added


class _Run:
    """One process of a run. The methods are called in the order in which they stand."""

    def __init__(self, config, folder, devices, evaluate, profile):
        self._config, self._folder, self._devices, self._evaluates = config, folder, devices, evaluate
        self._strategy = devices.strategy
        check_installed(config.trackers)
        self._callbacks = Callbacks(config.callbacks)
        self._task = get_task(config)
        self._source = experiment.open_source(config)
        self._eval_source = experiment.open_eval_source(config, self._source) if evaluate else self._source
        self._eval_settings = experiment.eval_settings(config)
        self._steps_per_epoch = self._source.num_examples(config.data.train_split) / config.batch_size
        self._total_steps = experiment.total_steps(config, self._steps_per_epoch)
        self._schedule = make_schedule(config, self._total_steps, self._steps_per_epoch)
        self._profile = Profile(folder, *profile, writes=devices.is_chief) if profile else None
        if not self._total_steps:
            raise ConfigError(
                f"config.epochs={config.epochs} is less than one step of config.batch_size={config.batch_size}; "
                "increase it"
            )
        if profile and profile[1] > self._total_steps:
            raise ConfigError(
                f"--profile={profile[0]}:{profile[1]} ends after the last step {self._total_steps}; end earlier"
            )
        if config.early_stopping.patience is not None and not evaluate:
            raise ConfigError(
                f"config.early_stopping.patience={config.early_stopping.patience} needs the evaluations that "
                "--mode=train leaves out; use None or --mode=train_and_eval"
            )

    def build(self, initialization, added_overrides):
        """Checks the input and builds model, optimizer and evaluator. Writes nothing."""
        config, num_classes = self._config, self._source.num_classes
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        if self._devices.kind == "cpu" and self._devices.num_workers == 1:
            eval_batch_size = (config.eval_batch_size or config.batch_size) if self._evaluates else None
            max_boxes = self._source.max_boxes
            check_memory(config, num_classes, max_boxes=max_boxes, eval_batch_size=eval_batch_size, trains=True)
        keras.utils.set_random_seed(config.seed)
        self._check_input()
        with self._strategy.scope():
            self._state = build_train_state(
                config, num_classes, self._schedule, self._devices.num_replicas, initialization
            )
            if self._devices.kind != "tpu" and 1 in (self._devices.num_replicas, config.batch_norm_replicas):
                fuse_batch_norm(self._state.model)
            self._average_statistics = None
            if self._state.statistics_differ:
                self._average_statistics = StatisticsAverage(self._state.model, self._state.ema, self._strategy)
            if self._evaluates:
                self._eval_model = model = experiment.build_model(config, num_classes)
                self._evaluator = Evaluator(model, self._strategy, self._task, self._devices.has_local_input)
                inspections = [RegionMaps(model, self._strategy), RoutingWeights(model, self._strategy)]
                if isinstance(self._task, Detection):
                    inspections.append(Detections(model, self._strategy, self._task))
                self._inspections = [inspection for inspection in inspections if inspection.names]
                self._shown_messages = set()
        settings = step_settings(config, self._task, self._devices.num_replicas)
        self._multi_step = MultiStep(
            self._strategy, self._state, measure_input_wait=not config.deterministic, **settings
        )
        self._norm_names = norm_names(self._state.model) if config.log_norms else []
        self._initialization = None
        if initialization:
            self._initialization = {"weights": initialization.path, "overrides": added_overrides}

    def _check_input(self):
        """Creates and discards the datasets, which raises the errors of invalid settings, and describes the data."""
        config = self._config
        workdir.check_class_names(self._source.class_names)
        data.check_servers(config.data.service)
        self._train_dataset(tf.distribute.InputContext(num_replicas_in_sync=self._devices.num_replicas), 0)
        data.check_images(self._source, config.data.train_split, config.data.service)
        eval_split = config.data.eval_split if self._evaluates else None
        if self._eval_source is self._source:
            self._data_messages = data.describe_splits(self._source, config.data.train_split, eval_split)
        else:
            self._data_messages = data.describe_splits(self._source, config.data.train_split)
            self._data_messages += data.describe_pairs(self._eval_source, eval_split)
        if self._evaluates:
            data.eval_dataset(self._eval_source, config.data.eval_split, batch_size=1, **self._eval_settings)

    def _train_dataset(self, context, first_step):
        config = self._config
        return data.train_dataset(
            self._source,
            config.data.train_split,
            batch_size=context.get_per_replica_batch_size(config.batch_size),
            first_example=first_step * config.batch_size,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
            count_corrupt=self._devices.has_local_input(context),
            **experiment.train_settings(config),
        )

    def save_identity(self):
        """Writes config.json and classes.txt, or verifies those of an earlier process of the run. Chief only.

        The other workers verify them in `restore`, after the exchange of steps: by then the chief has written them.
        """
        if self._devices.is_chief:
            workdir.save_or_verify_config(self._config, self._folder, self._initialization)
            workdir.save_or_verify_classes(self._folder, self._source.class_names)

    def restore(self):
        """Restores the newest checkpoint, if there is one, and sets up what depends on the step reached."""
        devices, config, folder = self._devices, self._config, self._folder
        self._checkpoints = CheckpointManager(
            folder, self._state.variables(), config.keep_checkpoints, writes=devices.is_chief
        )
        if self._evaluates:
            checkpoints.read_best_info(folder)  # raises an error now rather than at the first evaluation
        self._restored_path, self._restore_messages = self._checkpoints.restore_newest()
        if self._restore_messages and self._restored_path is None:
            raise ConfigError(
                f"all checkpoints of {folder!r} are corrupt ({self._restore_messages[0]}); restore one or change "
                "--workdir"
            )
        decorrelate_replica_seeds(self._state.model, self._strategy)
        self._step = int(self._state.optimizer.iterations.numpy())
        if not devices.agree(self._step):
            raise ConfigError(
                f"workers resume from different steps, this one from {self._step}; --workdir={folder} must be one "
                "folder that all workers see"
            )
        if not devices.is_chief:  # the chief has written the files before the exchange of steps
            workdir.save_or_verify_config(config, folder, self._initialization, write=False)
            workdir.verify_classes(folder, self._source.class_names)
        self._intervals = Intervals(
            self._step,
            self._total_steps,
            config.steps_per_loop,
            save_every=self._to_steps(config.checkpoint_every_epochs),
            eval_every=self._to_steps(config.eval_every_epochs) if self._evaluates else None,
            extra_stops=self._profile.stops if self._profile else (),
        )
        lines = read_metrics(folder)
        self._early_stopping = EarlyStopping(config.early_stopping, self._task.best_metric)
        self._early_stopping.replay(lines, self._step)
        hours = [line.get("time/device_hours") for line in lines]
        hours = [value for value in hours if isinstance(value, float)]
        self._timer = RunTimer(devices.num_replicas, hours[-1] if hours else 0.0)

    def _to_steps(self, epochs):
        """Returns the steps of some epochs, rounded to whole loops, so that all log lines cover equally many steps."""
        loops = round(epochs * self._steps_per_epoch / self._config.steps_per_loop)
        return max(1, loops) * self._config.steps_per_loop

    def loop(self):
        """Trains to the last step, or to the evaluation at which early stopping ends the run."""
        self._finite_step = self._save_started_step = self._step
        self._save_time = time.monotonic()
        # Of the steps since metrics were written.
        self._sums, self._summed_steps = initial_sums(self._task, self._norm_names), 0
        self._logged = {}  # newest value of each metric
        self._progress = ProgressDisplay(self._step, self._total_steps, messages_only=not self._devices.is_chief)
        self._log_start()
        first_step = self._step
        iterator = iter(
            self._strategy.distribute_datasets_from_function(lambda context: self._train_dataset(context, first_step))
        )
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(contextlib.closing(self._checkpoints))
                if self._profile:
                    stack.enter_context(contextlib.closing(self._profile))
                stop_request = stack.enter_context(StopRequest())
                is_chief = self._devices.is_chief
                self._writer = MetricsWriter(self._folder, first_step) if is_chief else None
                is_complete = self._is_complete()  # on all workers
                names = self._config.trackers if is_chief and not is_complete else ()
                self._trackers = stack.enter_context(
                    start_trackers(names, self._folder, self._config.to_dict(), self._progress.message)
                )
                while not self._is_complete():
                    self._train_to_next_stop(iterator)
                    if self._step < self._total_steps and not self._summed_steps:
                        self._save_or_stop_on_request(stop_request)
                if self._step < self._total_steps:
                    self._save()
                    if self._step > first_step:
                        self._progress.message(f"step {self._step}  stopped early: {self._early_stopping.reason}")
                self._checkpoints.wait()
                self._synchronize_workers()
        except WriteError as error:
            raise UnavailableError(
                f"{error}; complete checkpoints are kept: free disk space, and the same command resumes from step "
                f"{self._saved_step}"
            ) from error
        except KeyboardInterrupt:
            self._progress.message(
                f"interrupted at step {self._step}; the same command resumes from step {self._saved_step}"
            )
            raise
        finally:
            self._progress.close()

    def _is_complete(self):
        if self._step >= self._total_steps or self._config.early_stopping.patience is None:
            return self._step >= self._total_steps
        # All workers must end at the same step.
        return bool(self._devices.all_reduce_max([int(self._early_stopping.reason is not None)])[0])

    def _train_to_next_stop(self, iterator):
        """Trains to the next stop of the intervals; there it writes metrics, evaluates and saves if due."""
        start = time.perf_counter()
        stop, writes_metrics = self._intervals.next_stop(self._step)
        steps = stop - self._step
        with self._profile.trace(stop) if self._profile else contextlib.nullcontext():
            sums, bad_step, waited = self._multi_step(iterator, steps, self._sums)
        self._checkpoints.poll()
        self._summed_steps += steps
        if bad_step >= 0:
            raise TrainingError(
                f"train/loss is not finite at step {bad_step + 1} (learning rate {self._learning_rate(bad_step):.3g}); "
                f"{self._divergence_advice()}"
            )
        seconds = time.perf_counter() - start
        self._timer.add("input", waited)
        times = self._timer.metrics(steps, seconds, self._config.batch_size, self._total_steps - stop)
        if self._config.deterministic:
            del times["input_share"]  # not measured
        means = {name: float(total) / (self._summed_steps * self._config.batch_size) for name, total in sums.items()}
        norms = {name: means.pop(name) for name in self._norm_names}
        metrics = {
            **means,
            "learning_rate": self._learning_rate(stop - 1),
            "images_per_second": steps * self._config.batch_size / seconds,
        }
        self._progress.update(stop, metrics, 3600 * times["hours_left"], waited / seconds)
        if self._profile and (message := self._profile.update(stop)):
            self._progress.message(message)
        self._step, self._sums = stop, sums
        if not writes_metrics:
            return
        self._sums, self._summed_steps = initial_sums(self._task, self._norm_names), 0
        metrics = {**_grouped("train", metrics), **norms, **_grouped("time", times)}
        self._log(metrics)
        self._call_back("log", metrics, self._state.model)
        if self._intervals.is_eval_step(stop):
            self._prepare_weights()
            with self._timer.measure("evaluate"):
                self._evaluate()
        if self._intervals.is_save_step(stop):
            self._save()

    def _log(self, metrics):
        """Writes metrics of this step to metrics.jsonl and the trackers."""
        if self._writer:
            self._writer.write(self._step, metrics)
        self._trackers.log(self._step, metrics)
        self._logged.update(metrics)

    def _call_back(self, kind, metrics, model):
        self._callbacks(Event(kind, self._step, dict(metrics), self._folder, model, self._devices.is_chief))

    def _evaluate(self):
        split, config = self._config.data.eval_split, self._config
        self._evaluator.set_weights(self._state.eval_weights())
        metrics = self._evaluator.evaluate(
            self._eval_source,
            split,
            batch_size=config.eval_batch_size or config.batch_size,
            **experiment.metric_settings(config),
        )
        scalars = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
        scalars = _grouped("eval", scalars)
        self._log(scalars)
        is_best = self._checkpoints.save_if_best(self._step, self._task.best_metric, metrics[self._task.best_metric])
        self._early_stopping.update(self._step, metrics)
        summary = "  ".join(
            f"{title.removesuffix(' %')} {text}{'%' * title.endswith(' %')}"
            for title, text in self._task.summary(metrics).items()
            if text
        )
        self._progress.message(
            f"step {self._step}  evaluated on {split} ({metrics['examples']} examples, "
            f"{'ema' if self._state.ema else 'raw'} weights): {summary}{'  (best so far)' if is_best else ''}"
        )
        drawings = self._task.eval_drawings(
            self._evaluator.predictions, self._eval_source, split, experiment.input_settings(config)
        )
        self._trackers.log_images(self._step, {f"eval/{name}": png for name, png in drawings.items()})
        for inspection in self._inspections:
            summary = inspection.summarize(self._eval_source, split, self._eval_settings)
            self._trackers.log(self._step, summary.scalars)
            self._trackers.log_images(self._step, summary.images)
            for message in summary.messages:
                if message not in self._shown_messages:  # at most once, not after every evaluation
                    self._shown_messages.add(message)
                    self._progress.message(f"step {self._step}  {message}")
        self._call_back("evaluation", scalars, self._eval_model)

    def _save(self):
        if self._save_started_step == self._step:
            return
        self._prepare_weights()
        with self._timer.measure("save"):
            self._checkpoints.save(self._step)
            if self._callbacks:
                self._checkpoints.wait()  # they may read its files
        self._save_started_step, self._save_time = self._step, time.monotonic()
        self._call_back("checkpoint", self._logged, self._state.model)

    def _prepare_weights(self):
        """Prepares the weights for evaluation and saving: averages BatchNorm statistics, refuses what is not finite.

        The loss of a step is computed before its update, so the last update may have diverged unnoticed.
        """
        if self._finite_step == self._step:
            return
        if self._average_statistics:
            self._average_statistics()
        if not self._checkpoints.is_finite():
            raise TrainingError(f"the weights are not finite after step {self._step}; {self._divergence_advice()}")
        self._finite_step = self._step

    def _save_or_stop_on_request(self, stop_request):
        """Saves if checkpoint_every_minutes have passed; saves and raises Interrupted if a worker got a signal."""
        minutes = self._config.checkpoint_every_minutes
        is_due = minutes is not None and time.monotonic() - self._save_time >= 60 * minutes
        number, is_due = self._devices.all_reduce_max([stop_request.number or 0, int(is_due)])
        if number or is_due:
            self._save()
        if number:
            self._checkpoints.wait()
            self._synchronize_workers()
            raise Interrupted(number)

    def _synchronize_workers(self):
        """Waits for all workers, so that none exits before the chief has written its checkpoint."""
        self._devices.all_reduce_max([0])

    @property
    def _saved_step(self):
        return self._checkpoints.saved_step or 0

    def _learning_rate(self, step):
        return float(self._schedule(step))

    def _divergence_advice(self):
        self._checkpoints.wait()
        return (
            f"the newest checkpoint is of step {self._saved_step}; lower config.optimizer.learning_rate or set "
            "config.clip_norm"
        )

    def _log_start(self):
        config, devices, step, path = self._config, self._devices, self._step, self._restored_path
        for message in self._restore_messages:
            self._progress.message(f"skipped a checkpoint: {message}")
        start = f"resuming from {path}, step {step}" if path else "starting at step 0"
        if step >= self._total_steps:
            start = f"{path} is complete at step {step}; to train longer, raise config.epochs in a new workdir"
        elif reason := self._early_stopping.reason:
            start = f"{path} stopped early: {reason}; to train longer, raise config.early_stopping.patience"
        self._progress.message(
            f"{devices.num_replicas} x {devices.kind} ({devices.reason}), "
            f"{config.batch_size // devices.num_replicas} examples per replica; "
            f"{config.model.name} on {config.data.source}, {self._total_steps} steps; {start}"
        )
        if self._profile and self._profile.stops[0] <= step < self._total_steps:
            self._progress.message(f"no profile: the run is already past step {self._profile.stops[0]}")
        if not self._evaluates and masks(self._state.model):
            self._progress.message("region maps are only drawn by evaluations; use scripts/draw_regions.py instead")
        for message in self._state.log:
            self._progress.message(message)
        if self._initialization and self._initialization["overrides"]:
            overrides = dict(self._initialization["overrides"])
            names = [f"operator.{name}" for name in overrides.pop("operator", {})]
            names += [f"overrides.{name}" for name in overrides]
            self._progress.message(f"config.model: taken from the initial weights: {', '.join(names)}")
        for message in self._data_messages:
            self._progress.message(message)


def _grouped(group, scalars):
    return {f"{group}/{name}": value for name, value in scalars.items()}


def _check_workers_agree(config, evaluate, profile, devices):
    """Raises ConfigError if workers have different configs or flags: they would wait for each other forever."""
    fields = config.to_dict()
    del fields["data"]["data_dir"]  # may differ between machines
    checksum = zlib.crc32(json.dumps([fields, evaluate, profile], sort_keys=True).encode())
    if not devices.agree(checksum):
        raise ConfigError("the workers have different configs or flags; start all of them with the same command")


@contextlib.contextmanager
def _report_lost_workers(devices, folder):
    try:
        yield
    except _LOST_PEER_ERRORS as error:
        if devices.num_workers == 1:
            raise
        raise UnavailableError(
            f"lost another worker ({type(error).__name__}: {first_line(error)}); start all workers again, and training "
            f"resumes from {_resume_point(folder)}"
        ) from error


@contextlib.contextmanager
def _report_lost_servers(service, folder):
    def message(addresses):
        return (
            f"data server {', '.join(addresses)} does not answer; start it again, and the same command resumes from "
            f"{_resume_point(folder)}"
        )

    def exit_process(address):
        # The step is blocked inside TensorFlow, waiting for its next batch, and cannot be canceled.
        print(message([address]), file=sys.stderr, flush=True)
        os._exit(UnavailableError.exit_status)

    try:
        with data.watch_servers(service, exit_process):
            yield
    except (*_LOST_PEER_ERRORS, tf.errors.NotFoundError) as error:
        if addresses := data.unreachable_servers(service):
            raise UnavailableError(message(addresses)) from error
        if service is None or "a dispatcher restart" not in str(error):
            raise
        raise UnavailableError(
            f"a data server of {service} was restarted and has lost the datasets of this run; the same command resumes "
            f"from {_resume_point(folder)}"
        ) from error


def _resume_point(folder):
    return checkpoints.newest(folder) or "the beginning"
