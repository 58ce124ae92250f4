"""What an experiment's config must satisfy, and its life in the workdir as config.json."""

import json
import os

import keras
import ml_collections
import tensorflow as tf

import convzoo
from convzoo.training.files import read_text, write_text

FILE = "config.json"


class ConfigError(ValueError):
    """A mistake in the experiment or in where it is to run: one line with what is wrong, the value, and what to do."""


_REQUIRED = ("model.name", "data.source", "batch_size", "epochs", "optimizer.learning_rate")
_CHOICES = {
    "task": ("classification", "segmentation"),
    "precision": ("float32", "mixed_bfloat16"),
    "optimizer.name": ("rmsprop", "sgd"),
    "schedule.name": ("cosine", "linear", "exponential", "step", "constant"),
    "data.interpolation": (None, "bilinear", "bicubic"),
}
# Field: the least and the most it may be; None is no bound, and a field that is None itself is not set.
_WITHIN = {
    "seed": (0, 2**31 - 1),
    "model.image_size": (1, None),
    "data.shuffle_buffer": (1, None),
    "data.max_broken": (0, 1),
    "gradient_accumulation": (1, None),
    "batch_norm_replicas": (1, None),
    "label_smoothing": (0, 0.999),
    "weight_decay": (0, None),
    "optimizer.learning_rate": (0, None),
    "optimizer.momentum": (0, 0.9999),
    "optimizer.rho": (0, 0.9999),
    "schedule.warmup_epochs": (0, None),
    "segmentation.output_stride": (1, None),
    "segmentation.filters": (1, None),
    "segmentation.low_level_filters": (1, None),
    "segmentation.head_dropout_rate": (0, 0.999),
    "ema_decay": (0, 0.999999),
    "steps_per_loop": (1, None),
    "keep_checkpoints": (1, None),
}
_ABOVE_ZERO = (
    "epochs",
    "clip_norm",
    "init.body_rate",
    "optimizer.epsilon",
    "schedule.decay_epochs",
    "schedule.decay_rate",
    "eval_every_epochs",
    "checkpoint_every_epochs",
    "checkpoint_every_minutes",
)
# What may change when a run goes on in its workdir: the result does not depend on it.
_MAY_DIFFER = (
    "steps_per_loop",
    "eval_every_epochs",
    "eval_batch_size",
    "checkpoint_every_epochs",
    "checkpoint_every_minutes",
    "keep_checkpoints",
    "data.data_dir",
    "data.max_broken",
    "data.service",
)
# Fields that runs of earlier versions lack, with what was done then.
_BEFORE_THERE_WERE = {
    "checkpoint_every_minutes": None,
    "deterministic": False,
    "task": "classification",
    "segmentation.output_stride": 16,
    "segmentation.filters": 256,
    "segmentation.low_level_filters": 48,
    "segmentation.atrous_rates": [],
    "segmentation.head_dropout_rate": 0.1,
    "init.weights": None,
    "init.new_head": False,
    "init.freeze": [],
    "init.body_rate": 1.0,
    "batch_norm_replicas": None,
    "schedule.milestones": [],
    "data.crop_padding": 0,
    "data.jitter": [0.0, 0.0, 0.0],
    "data.auto_augment": False,
    "data.rand_augment": [],
    "data.erasing": 0.0,
    "data.mixup": 0.0,
    "data.cutmix": 0.0,
    "data.repeats": 1,
    "data.interpolation": None,
    "data.max_broken": 0.001,
    "data.service": None,
}


def validate(config: ml_collections.ConfigDict, num_replicas: int) -> None:
    """Checks an experiment before anything is built or written.

    Args:
        config: The experiment, with the fields of configs/base.py.
        num_replicas: Devices that share each batch.

    Raises:
        ConfigError: A field is missing or out of range, or the batch does not divide by the replicas. (Unknown fields
            are refused by the lock of configs/base.py.)
    """
    fields = _flatten(config.to_dict())
    for name in (*_REQUIRED, *_CHOICES, *_WITHIN, *_ABOVE_ZERO, *_BEFORE_THERE_WERE):
        if name not in fields:
            raise ConfigError(f"the experiment has no field config.{name}; start it from configs/base.py")
    for name in _REQUIRED:
        if fields.get(name) is None:
            raise ConfigError(f"config.{name} is not set; set it in the config file or with --config.{name}=...")
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            known = ", ".join(choice for choice in choices if choice)
            raise ConfigError(f"config.{name} is {fields[name]!r}; choose one of {known}")
    for name, (least, most) in _WITHIN.items():
        value = fields[name]
        if value is not None and (value < least or (most is not None and value > most)):
            bounds = f"at least {least}" if most is None else f"between {least} and {most}"
            raise ConfigError(f"config.{name} is {value}; it must be {bounds}")
    for name in _ABOVE_ZERO:
        if fields[name] is not None and fields[name] <= 0:
            raise ConfigError(f"config.{name} is {fields[name]}; it must be above 0")
    freeze = fields["init.freeze"]
    if isinstance(freeze, str) or not all(isinstance(pattern, str) and pattern for pattern in freeze):
        raise ConfigError(f"config.init.freeze is {freeze!r}; write a tuple of patterns, as ('stem_*', 'block[0-3]_*')")
    milestones = config.schedule.milestones
    if isinstance(milestones, (int, float, str)) or not all(
        isinstance(epoch, (int, float)) and before < epoch
        for before, epoch in zip((0, *milestones), milestones, strict=False)
    ):
        raise ConfigError(f"config.schedule.milestones is {milestones!r}; write rising epochs, as (200, 300, 350)")
    if (config.schedule.name == "step") != bool(milestones):
        raise ConfigError(
            f"config.schedule.name is {config.schedule.name!r} and config.schedule.milestones is {milestones!r}: "
            "milestones and the schedule step go together; set both or neither"
        )
    if config.task == "segmentation" and config.data.crop_fraction is not None:
        raise ConfigError(
            f"config.data.crop_fraction is {config.data.crop_fraction} and config.task segmentation, which takes "
            "pictures whole; set it to None"
        )
    rates = config.segmentation.atrous_rates
    if isinstance(rates, (int, float, str)) or not all(isinstance(rate, int) and rate > 0 for rate in rates):
        raise ConfigError(
            f"config.segmentation.atrous_rates is {rates!r}; write positive whole numbers, as (6, 12, 18)"
        )
    if config.schedule.warmup_epochs > config.epochs:
        raise ConfigError(
            f"config.schedule.warmup_epochs {config.schedule.warmup_epochs} is longer than the training "
            f"(config.epochs {config.epochs}); shorten the warm-up"
        )
    for name in ("batch_size", "eval_batch_size"):
        if fields[name] is not None and (fields[name] < 1 or fields[name] % num_replicas):
            raise ConfigError(f"config.{name} {fields[name]} does not divide by {num_replicas} replicas; change one")
    if num_replicas > 1 and num_replicas % (config.batch_norm_replicas or 1):
        raise ConfigError(
            f"config.batch_norm_replicas {config.batch_norm_replicas} does not divide the {num_replicas} replicas; "
            "change it or leave it None"
        )
    if config.deterministic and num_replicas > 1:
        raise ConfigError(
            f"config.deterministic is for one device and here are {num_replicas} replicas; leave it False"
        )
    parts = num_replicas * config.gradient_accumulation
    if config.batch_size % parts:
        raise ConfigError(
            f"config.batch_size {config.batch_size} does not divide by {num_replicas} replicas times "
            f"gradient_accumulation {config.gradient_accumulation}; change one of them"
        )


def save(config: ml_collections.ConfigDict, workdir: str, start: dict | None = None) -> None:
    """Writes the resolved experiment to `workdir`, with the versions that began it and what it started from."""
    record = {
        "convzoo": convzoo.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "config": config.to_dict(),
        **({"start": start} if start else {}),
    }
    write_text(os.path.join(workdir, FILE), json.dumps(record, indent=2) + "\n")


def load(workdir: str) -> ml_collections.ConfigDict:
    """The experiment that `workdir` holds, locked; fields that there were not yet have what was done then.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    config = ml_collections.ConfigDict(_read(workdir)["config"], convert_dict=True)
    for name, value in _BEFORE_THERE_WERE.items():
        *rooms, field = name.split(".")
        room = config
        for part in rooms:
            room = room[part] if part in room else room.update({part: ml_collections.ConfigDict()}) or room[part]
        if field not in room:
            room[field] = value
    return config.lock()


def load_start(workdir: str) -> dict:
    """What the run in `workdir` started from, as `claim` was given it; {} for chance, or where there is no run."""
    return _read(workdir).get("start", {}) if tf.io.gfile.exists(os.path.join(workdir, FILE)) else {}


def _read(workdir: str) -> dict:
    path = os.path.join(workdir, FILE)
    if not tf.io.gfile.exists(path):
        raise ConfigError(f"{workdir!r} holds no experiment ({FILE} is missing); give the workdir of a training run")
    try:
        record = json.loads(read_text(path))
        if not isinstance(record["config"], dict):
            raise TypeError("its config is no table")
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a convzoo config ({error}); restore it or use another workdir") from error
    return record


def claim(config: ml_collections.ConfigDict, workdir: str, start: dict | None = None) -> None:
    """Makes `workdir` that of `config`, or finds that it is already.

    Args:
        config: The resolved experiment.
        workdir: The run's folder.
        start: What the run starts from, JSON values, to be kept with the experiment; None for chance.

    Raises:
        ConfigError: The workdir holds another experiment, and the first differing fields are named; or it cannot be
            written.
    """
    if not tf.io.gfile.exists(os.path.join(workdir, FILE)):
        try:
            save(config, workdir, start)
        except (tf.errors.OpError, OSError) as error:
            raise ConfigError(f"cannot write to --workdir={workdir} ({first_line(error)}); choose another") from error
        return
    before = _flatten(load(workdir).to_dict())
    now = _flatten(_as_json(config.to_dict()))
    differing = [
        f"{name} is {before.get(name)!r} there and {now.get(name)!r} here"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and name not in _MAY_DIFFER
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"{workdir!r} holds another experiment: {'; '.join(differing[:3])}{more}; choose another --workdir"
        )
    if before.get("data.max_broken") != now["data.max_broken"]:
        # Evaluation reads it there.
        record = _read(workdir)
        record["config"]["data"]["max_broken"] = config.data.max_broken
        write_text(os.path.join(workdir, FILE), json.dumps(record, indent=2) + "\n")
    if start and _as_json(start) != load_start(workdir):
        # A run that ended before its first checkpoint begins once more, perhaps from a better one of another run.
        save(config, workdir, start)


def first_line(error: Exception) -> str:
    """What an error says first, for a message of one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _as_json(tree: dict) -> dict:
    return json.loads(json.dumps(tree))


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
