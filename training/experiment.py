"""From an experiment's config to the things it names: data source, network, preprocessing. Training, evaluation and
export all build them here, so that they cannot differ."""

import dataclasses
import math

import keras
import ml_collections

from convzoo import data, models
from convzoo.training import tasks
from convzoo.training.config import ConfigError


def open_source(config: ml_collections.ConfigDict) -> data.Source:
    """The data source of the experiment. Raises data.DataError where it cannot be had."""
    return data.open_source(config.data.source, data_dir=config.data.data_dir, maps=tasks.of(config).has_maps)


def of_weights(
    base: ml_collections.ConfigDict,
    path: str,
    source: str,
    data_dir: str | None = None,
    image_size: int | None = None,
) -> ml_collections.ConfigDict:
    """The experiment in which the weights of a file are looked at: their network on a data source.

    Args:
        base: configs/base.py's experiment.
        path: A `.weights.h5` file with a record, of `models.save_weights`.
        source: What `config.data.source` takes.
        data_dir: What `config.data.data_dir` takes.
        image_size: Height and width in pixels; None for the network's own.

    Raises:
        ConfigError, models.ModelError: The file is not there or has no record.
    """
    record = models.read_record(path)
    if not record:
        raise ConfigError(
            f"weights {path!r} do not tell of which network they are; write them with convzoo.models.save_weights"
        )
    config = ml_collections.ConfigDict(base.to_dict())
    config.model.name, config.model.overrides = record["model"], record["overrides"]
    config.model.image_size = image_size
    config.data.source, config.data.data_dir = source, data_dir
    config.batch_size = 64
    return config.lock()


def total_steps(config: ml_collections.ConfigDict, steps_per_epoch: float) -> int:
    """Steps of the whole training: as many as its epochs hold whole."""
    return math.floor(config.epochs * steps_per_epoch + 1e-6)


def input_settings(config: ml_collections.ConfigDict) -> dict:
    """Size and normalisation of the network's input: what the config says, else what the network was published with.

    Returns image_size (height, width), mean, std, crop_fraction (None: pictures are taken whole) and interpolation, as
    `data.eval_transform` takes them.
    """
    info, whole = models.info(config.model.name), tasks.of(config).has_maps
    size = config.model.image_size or info.input_size
    return {
        "image_size": (size, size),
        "mean": info.preprocessing.mean,
        "std": info.preprocessing.std,
        "crop_fraction": None if whole else config.data.crop_fraction or info.preprocessing.crop_fraction,
        "interpolation": config.data.interpolation or info.preprocessing.interpolation,
    }


def eval_settings(config: ml_collections.ConfigDict) -> dict:
    """What `data.eval_dataset` takes of the experiment: `input_settings`, and how many pictures may be broken."""
    return {**input_settings(config), "max_broken": config.data.max_broken}


def train_settings(config: ml_collections.ConfigDict) -> dict:
    """What `data.train_dataset` takes of the experiment, but for batch, shard and beginning."""
    settings = input_settings(config)
    del settings["crop_fraction"]
    return {
        **settings,
        "seed": config.seed,
        "shuffle_buffer": config.data.shuffle_buffer,
        "augmentation": augmentation(config),
        "max_broken": config.data.max_broken,
        "service": config.data.service,
    }


def augmentation(config: ml_collections.ConfigDict) -> data.Augmentation:
    """What the experiment's training does to its pictures."""
    settings = {field.name: config.data[field.name] for field in dataclasses.fields(data.Augmentation)}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    for name in ("crop_area", "rand_augment"):
        if settings[name] in ((), (None,)):  # the second is what the command line makes of None
            settings[name] = None
    return data.Augmentation(**settings)


def build_model(config: ml_collections.ConfigDict, num_classes: int, *, precision: str | None = None) -> keras.Model:
    """The experiment's network, freshly initialised, under `precision` or else the config's dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision or config.precision)
    try:
        size = input_settings(config)["image_size"]
        overrides = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.model.overrides.to_dict().items()
        }
        return tasks.of(config).build(config, num_classes, (*size, 3), overrides)
    finally:
        keras.config.set_dtype_policy(before)
