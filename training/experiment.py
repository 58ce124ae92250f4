"""Builds what a config names: data source, network and preprocessing.

Training, evaluation and export all use these functions, so they cannot disagree.
"""

import dataclasses
import math

import keras
import ml_collections

from convzoo import data, layers, models
from convzoo.configs import base
from convzoo.errors import ConfigError
from convzoo.tasks import get_task


def open_source(config: ml_collections.ConfigDict) -> data.Source:
    """Opens the data source of the experiment. Raises DataError where it is missing or invalid."""
    return data.open_source(config.data.source, data_dir=config.data.data_dir, label_kind=get_task(config).label_kind)


def open_eval_source(config: ml_collections.ConfigDict, source: data.Source) -> data.Source:
    """Returns the source of the images of evaluation; `source` is the one of training. Errors as for `open_source`."""
    return get_task(config).open_eval_source(config.data.source, config.data.data_dir) or source


def config_for_weights(
    path: str, source: str | None, data_dir: str | None = None, image_size: int | None = None
) -> ml_collections.ConfigDict:
    """Returns a locked config that evaluates or exports the weights of a file.

    Args:
        path: A `.weights.h5` file with metadata, as `models.save_weights` writes it.
        source: Value of `config.data.source`; None if no data are read.
        data_dir: Value of `config.data.data_dir`.
        image_size: Height and width in pixels; None for the published size of the network.

    Raises:
        ConfigError: The file has no metadata.
        ModelError: The file does not exist or is not a weights file.
    """
    metadata = models.read_metadata(path)
    if not metadata:
        raise ConfigError(f"weights {path!r} do not name their network; write them with convzoo.models.save_weights")
    config = ml_collections.ConfigDict(base.get_config().to_dict())
    config.model.operator = metadata["overrides"].pop("operator", {})
    config.model.name, config.model.overrides = metadata["model"], metadata["overrides"]
    config.model.image_size = image_size
    for name, value in metadata.get("preprocessing", {}).items():
        config.data[name] = tuple(value)
    config.data.data_dir = data_dir
    if source is not None:
        config.data.source = source
    config.batch_size = 64
    return config.lock()


def total_steps(config: ml_collections.ConfigDict, steps_per_epoch: float) -> int:
    """Returns the number of steps of the whole run: the largest integer within `config.epochs`."""
    return math.floor(config.epochs * steps_per_epoch + 1e-6)


def input_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns size and normalization of the network's input, the arguments of `data.eval_transform`.

    Values that the config leaves at None are those the network was published with. `crop_fraction` is None for tasks
    with label maps or boxes, which use whole images.
    """
    info = models.info(config.model.name)
    # A detector's own default is larger than that of its backbone.
    default = models.DetectorInfo.input_size if config.task == "detection" else info.input_size
    size = config.model.image_size or default
    crop_fraction = config.data.crop_fraction or info.preprocessing.crop_fraction
    return {
        "image_size": (size, size),
        "mean": tuple(config.data.mean or info.preprocessing.mean),
        "std": tuple(config.data.std or info.preprocessing.std),
        "crop_fraction": crop_fraction if get_task(config).label_kind == "class" else None,
        "interpolation": config.data.interpolation or info.preprocessing.interpolation,
    }


def keeps_scale(config: ml_collections.ConfigDict) -> bool:
    """Returns whether evaluation leaves images at their own scale, as training with scale jitter does."""
    return config.data.scale_jitter is not None


def eval_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the arguments of `data.eval_dataset`, without batch and shard."""
    settings = {**input_settings(config), "max_corrupt_fraction": config.data.max_corrupt_fraction}
    if keeps_scale(config):
        settings |= {"image_size": tuple(config.segmentation.eval_size), "keep_scale": True}
    return settings


def metric_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the arguments of `data.eval_dataset` for metrics: segmentation may keep the size of the labels."""
    size = config.segmentation.eval_size if config.task == "segmentation" and not keeps_scale(config) else None
    return {**eval_settings(config), "label_size": size and tuple(size)}


def export_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the arguments of `data.eval_transform` in an exported model."""
    return {**input_settings(config), **({"image_size": None} if keeps_scale(config) else {})}


def train_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the arguments of `data.train_dataset`, without batch, shard and first example."""
    settings = input_settings(config)
    del settings["crop_fraction"]
    return {
        **settings,
        "max_corrupt_fraction": config.data.max_corrupt_fraction,
        "seed": config.seed,
        "shuffle_buffer": config.data.shuffle_buffer,
        "augmentation": augmentation(config),
        "service": config.data.service,
    }


def augmentation(config: ml_collections.ConfigDict) -> data.Augmentation:
    """Returns the augmentation of the experiment."""
    fields = {field.name: config.data[field.name] for field in dataclasses.fields(data.Augmentation)}
    return data.Augmentation(**{name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()})


def model_arguments(config: ml_collections.ConfigDict) -> dict:
    """Returns the arguments of the network's builder, with "operator" where the config has one."""
    overrides = config.model.overrides.to_dict()
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items()}
    if config.model.operator:
        arguments["operator"] = config.model.operator.to_dict()
    return arguments


def build_model(config: ml_collections.ConfigDict, num_classes: int, *, precision: str | None = None) -> keras.Model:
    """Builds the randomly initialized network under the dtype policy `precision`, by default `config.precision`.

    Raises:
        ConfigError: The precision is mixed_float16 and the target a TPU.
        ModelError: The arguments of the network are invalid.
    """
    previous, precision = keras.config.dtype_policy(), precision or config.precision
    if precision == "mixed_float16" and layers.get_target() == "tpu":
        raise ConfigError("config.precision='mixed_float16' does not run on a TPU; use 'mixed_bfloat16'")
    keras.config.set_dtype_policy(precision)
    try:
        size = input_settings(config)["image_size"]
        return get_task(config).build_model(config, num_classes, (*size, 3), model_arguments(config))
    finally:
        keras.config.set_dtype_policy(previous)
