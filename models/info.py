"""Facts about a registered network that are known without building it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Preprocessing that the network expects: (x - mean) / std per channel, for x from 0 to 255.

    Attributes:
        mean: Mean of red, green and blue, from 0 to 255.
        std: Standard deviation of red, green and blue, on the same scale.
        crop_fraction: Side of the square center crop in evaluation, as a fraction of the image's shorter side.
        interpolation: "bicubic" or "bilinear".
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float
    interpolation: str = "bicubic"


IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_fraction=0.875)
IMAGENET_BILINEAR = dataclasses.replace(IMAGENET, interpolation="bilinear")


@dataclasses.dataclass(frozen=True)
class Reported:
    """An accuracy that others reported; convzoo did not measure it.

    Attributes:
        top1: Single-crop accuracy in percent, on ImageNet's validation split unless `source` names another data set.
        source: Who reported it, and for which weights.
    """

    top1: float
    source: str


@dataclasses.dataclass(frozen=True)
class Published:
    """The network's size as others published it, for comparison with `count`.

    Attributes:
        params: Number of parameters with the published digits, or None.
        madds: Multiply-adds per example with the published digits, or None.
        source: Who published them.
        note: Why `count` differs, if it does.
    """

    params: float | None
    madds: float | None
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Facts about one registered network.

    Attributes:
        name: The name that `create_model` takes.
        family: The network family, for example "efficientnet".
        paper: Title and arXiv number of the paper that published the network.
        params: Trainable parameters with `num_classes` classes; a test compares it with `count`.
        madds: Multiply-adds per example at `input_size` with `num_classes` classes; a test compares it with `count`.
        input_size: Published height and width in pixels.
        preprocessing: Preprocessing that the network expects.
        reported: Reported accuracy with its source, or None.
        published: Published size with its source, or None.
        num_classes: Published number of classes.
    """

    name: str
    family: str
    paper: str
    params: int
    madds: int
    input_size: int = 224
    preprocessing: Preprocessing = IMAGENET
    reported: Reported | None = None
    published: Published | None = None
    num_classes: int = 1000


# Fields of ModelInfo for networks of 32x32 images.
CIFAR = {
    "input_size": 32,
    "preprocessing": Preprocessing((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), crop_fraction=1.0),
    "num_classes": 10,
}
