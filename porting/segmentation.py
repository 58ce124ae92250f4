"""Import of torchvision's DeepLabv3 (github.com/pytorch/vision) into a segmenter of ours."""

import keras

from convzoo.errors import ModelError
from convzoo.models import create_segmenter
from convzoo.models.segmentation import HEAD_PREFIX
from convzoo.porting import readers
from convzoo.porting.assignment import assign_weights
from convzoo.porting.frameworks import TORCH
from convzoo.porting.timm import RESNET
from convzoo.porting.weight_source import LayerNameMap

_BACKBONE, _HEAD, _AUXILIARY = "backbone.", "classifier.", "aux_classifier."
_OUTPUT_STRIDE, _RATES = 8, (12, 24, 36)


def _conv_bn(theirs, ours):
    return {f"{theirs}.0": f"{HEAD_PREFIX}{ours}_conv", f"{theirs}.1": f"{HEAD_PREFIX}{ours}_bn"}


_LAYERS = {
    **_conv_bn("0.convs.0", "pyramid_point"),
    **{
        key: name
        for i, rate in enumerate(_RATES, 1)
        for key, name in _conv_bn(f"0.convs.{i}", f"pyramid_rate{rate}").items()
    },
    "0.convs.4.1": f"{HEAD_PREFIX}pyramid_pool_conv",
    "0.convs.4.2": f"{HEAD_PREFIX}pyramid_pool_bn",
    **_conv_bn("0.project", "pyramid_project"),
    "1": f"{HEAD_PREFIX}decoder0_conv",
    "2": f"{HEAD_PREFIX}decoder0_bn",
    "4": f"{HEAD_PREFIX}head_conv",
}
_HEAD_NAMES = LayerNameMap(_LAYERS, r"(?!)", ())


def import_deeplabv3(checkpoint: str) -> keras.Model:
    """Builds a segmenter with the weights of torchvision's `deeplabv3_resnet50`.

    The auxiliary classifier of training is left out.

    Args:
        checkpoint: Path of a `.safetensors`, `.npz` or `.pth` file.

    Returns:
        A model of `models.create_segmenter` for images of any size; the number of classes is that of the checkpoint.

    Raises:
        ModelError: The checkpoint cannot be read or is another network's.

    Example:
        >>> import numpy as np
        >>> np.savez("deeplab.npz", **{"backbone.conv1.weight": np.ones((64, 3, 7, 7), "float32")})
        >>> import_deeplabv3("deeplab.npz")  # a real file has all weights
        Traceback (most recent call last):
        convzoo.errors.ModelError: 'deeplab.npz' has no classifier.4.weight; give a file of ...
    """
    variables, _ = readers.read(checkpoint, ema=False)
    last = variables.get(f"{_HEAD}4.weight")
    if last is None or last.ndim != 4:
        raise ModelError(f"{checkpoint!r} has no {_HEAD}4.weight; give a file of torchvision's deeplabv3_resnet50")
    values = {name: value for name, value in variables.items() if not name.startswith(_AUXILIARY)}
    model = create_segmenter(
        "resnet50",
        last.shape[0],
        (None, None, 3),
        output_stride=_OUTPUT_STRIDE,
        atrous_rates=_RATES,
        head_dropout_rate=0.5,
        decoder="deeplabv3",
    )
    paths = {}
    for prefix, names in ((_BACKBONE, RESNET), (_HEAD, _HEAD_NAMES)):
        own = [name.removeprefix(prefix) for name in values if name.startswith(prefix)]
        paths |= {f"{prefix}{name}": path for name, path in names.variable_paths(own, TORCH).items()}
    assign_weights(model, values, paths, TORCH)
    return model
