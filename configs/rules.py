"""The rules between the fields of an experiment."""

from convzoo.configs.fields import OPTIMIZER_DEFAULTS, Detection, EarlyStopping, Experiment, Optimizer
from convzoo.errors import ConfigError

# Arguments of `models.create_model` that are not overrides.
_NOT_OVERRIDES = {"name", "num_classes", "input_shape", "weights", "operator"}


def check_rules(experiment: Experiment, num_replicas: int) -> None:
    """Checks what the types and ranges of single fields do not say.

    Args:
        experiment: The experiment.
        num_replicas: Number of devices that share each batch.

    Raises:
        ConfigError: One line that names a field, its value and what is allowed.
    """
    schedule, crop_fraction = experiment.schedule, experiment.data.crop_fraction
    for name in _NOT_OVERRIDES & experiment.model.overrides.keys():
        raise ConfigError(
            f"config.model.overrides.{name}={experiment.model.overrides[name]!r} has its own field or "
            "follows from the data; remove it"
        )
    _check_optimizer(experiment.optimizer)
    for field, owner in (("milestones", "step"), ("cycle_epochs", "cosine_restarts"), ("timescale_epochs", "rsqrt")):
        value = getattr(schedule, field)
        if (schedule.name == owner) != (value is not None):
            raise ConfigError(
                f"config.schedule.{field}={value} does not fit config.schedule.name={schedule.name!r}; set {field} for "
                f"{owner!r} and only for {owner!r}"
            )
    for field in ("warmup_epochs", "cooldown_epochs"):
        if getattr(schedule, field) > experiment.epochs:
            raise ConfigError(
                f"config.schedule.{field}={getattr(schedule, field)} is longer than the training "
                f"(config.epochs={experiment.epochs}); use fewer"
            )
    stopping, defaults = experiment.early_stopping, EarlyStopping()
    for field, value in stopping:
        if stopping.patience is None and value != getattr(defaults, field):
            raise ConfigError(
                f"config.early_stopping.{field}={value!r} has no effect with config.early_stopping.patience=None; "
                f"set patience or use {getattr(defaults, field)!r}"
            )
    if experiment.task in ("segmentation", "detection") and crop_fraction is not None:
        raise ConfigError(
            f"config.data.crop_fraction={crop_fraction} does not fit config.task={experiment.task!r}, which evaluates "
            "whole images; use None"
        )
    if experiment.task == "detection" and experiment.label_smoothing:
        raise ConfigError(
            f"config.label_smoothing={experiment.label_smoothing} has no effect with config.task='detection'; use 0.0"
        )
    detection, defaults = experiment.detection, Detection()
    for name in ("focal_alpha", "focal_gamma"):
        if detection.class_loss != "focal" and getattr(detection, name) != getattr(defaults, name):
            raise ConfigError(
                f"config.detection.{name}={getattr(detection, name)} has no effect with "
                f"config.detection.class_loss={detection.class_loss!r}; remove it"
            )
    jitter, crop_area = experiment.data.scale_jitter, experiment.data.crop_area
    if jitter is not None and (experiment.task != "segmentation" or crop_area is not None):
        raise ConfigError(
            f"config.data.scale_jitter={jitter} needs config.task='segmentation' and config.data.crop_area=None, not "
            f"{experiment.task!r} and {crop_area}"
        )
    if jitter is not None and experiment.segmentation.eval_size is None:
        raise ConfigError(
            f"config.data.scale_jitter={jitter} keeps the scale of images, so evaluation needs "
            "config.segmentation.eval_size; set it to the largest height and width of an image"
        )
    if experiment.weight_decay_multipliers and not experiment.weight_decay:
        raise ConfigError(
            f"config.weight_decay_multipliers={experiment.weight_decay_multipliers} has no effect with "
            "config.weight_decay=0.0; use ()"
        )
    if experiment.log_norms and experiment.precision == "mixed_float16":
        raise ConfigError(
            "config.log_norms=True does not fit config.precision='mixed_float16', which skips steps without finite "
            "norms; use False or 'mixed_bfloat16'"
        )
    if experiment.task == "verification":
        _check_verification(experiment)
    for name in ("batch_size", "eval_batch_size"):
        size = getattr(experiment, name)
        if size is not None and size % num_replicas:
            raise ConfigError(
                f"config.{name}={size} is not divisible by {num_replicas} replicas; use a multiple of {num_replicas}"
            )
    steps = experiment.gradient_accumulation_steps
    if experiment.batch_size % (num_replicas * steps):
        raise ConfigError(
            f"config.batch_size={experiment.batch_size} is not divisible by {num_replicas} replicas times "
            f"config.gradient_accumulation_steps={steps}; use a multiple of {num_replicas * steps}"
        )
    if num_replicas > 1 and num_replicas % (experiment.batch_norm_replicas or 1):
        raise ConfigError(
            f"config.batch_norm_replicas={experiment.batch_norm_replicas} does not divide the {num_replicas} replicas; "
            "use a divisor or None"
        )
    if experiment.deterministic and num_replicas > 1:
        raise ConfigError(
            f"config.deterministic=True does not support {num_replicas} replicas; use one device or False"
        )


def _check_optimizer(optimizer: Optimizer) -> None:
    used = OPTIMIZER_DEFAULTS[optimizer.name]
    for field in sorted(set().union(*OPTIMIZER_DEFAULTS.values())):
        value = getattr(optimizer, field)
        if value is not None and field not in used:
            owners = ", ".join(name for name, fields in OPTIMIZER_DEFAULTS.items() if field in fields)
            raise ConfigError(
                f"config.optimizer.{field}={value} has no effect with config.optimizer.name={optimizer.name!r}; use "
                f"None, or set config.optimizer.name to one of {owners}"
            )


def _check_verification(experiment: Experiment) -> None:
    for name in ("mixup", "cutmix"):
        if (value := getattr(experiment.data, name)) is not None:
            raise ConfigError(
                f"config.data.{name}={value} does not fit config.task='verification', whose margin needs one identity "
                "per image; use None"
            )
    settings = experiment.verification
    if settings.loss == "softmax" and settings.margin is not None:
        raise ConfigError(
            f"config.verification.margin={settings.margin} has no effect with config.verification.loss='softmax'; use "
            "None"
        )
