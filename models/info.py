"""What is known of a registered network without building it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What the network expects of a picture: (x - mean) / std on the scale 0 to 255, channel by channel.

    Attributes:
        mean: Three numbers, red, green, blue, on the scale 0 to 255.
        std: Three numbers on the same scale.
        crop_fraction: Side of the square centre crop that evaluation takes, as a share of the picture's shorter side.
        interpolation: "bicubic" or "bilinear".
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_fraction: float
    interpolation: str = "bicubic"


@dataclasses.dataclass(frozen=True)
class Reported:
    """A figure that others published: nothing that convzoo measured.

    Attributes:
        top1: Accuracy in percent, single crop; on ImageNet's validation split unless the source says otherwise.
        source: Who reported it, and for which weights.
    """

    top1: float
    source: str


@dataclasses.dataclass(frozen=True)
class Published:
    """The network's size as others printed it, to hold beside what `count` finds.

    Attributes:
        params: Parameters, as many digits as were printed; None where none were.
        madds: Multiply-adds of one example, likewise.
        source: Who printed them.
        note: Why `count` finds something else, where it does.
    """

    params: float | None
    madds: float | None
    source: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """The record of one registered network.

    Attributes:
        name: The name that `create_model` takes.
        family: The room of the zoo, as "efficientnet".
        paper: Where the network was published, with its arXiv number.
        params: Trainable parameters with `num_classes`; a test holds it to what is built.
        madds: Multiply-adds of one example at `input_size` with `num_classes` (see `count`); held likewise.
        input_size: Published height and width in pixels.
        preprocessing: What the network expects of a picture.
        reported: The published accuracy with its source, or None.
        published: Its size as others printed it, or None.
        num_classes: Published width of the logits.
    """

    name: str
    family: str
    paper: str
    params: int
    madds: int
    input_size: int
    preprocessing: Preprocessing
    reported: Reported | None = None
    published: Published | None = None
    num_classes: int = 1000
