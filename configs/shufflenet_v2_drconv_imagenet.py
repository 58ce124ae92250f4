"""ShuffleNetV2 on ImageNet, plain and with region-aware convolutions (DRConv, arXiv 2003.12243).

    python train.py --config=configs/shufflenet_v2_drconv_imagenet.py:drconv_x0_5 --tpu=local --workdir=gs://B/drconv

Variants: x0_5, x1_0, x1_5, x2_0, the plain networks; drconv_x0_5 ... drconv_x2_0, the region-aware ones. Not run here:
it needs ImageNet (prepared by hand, see the catalogue of TensorFlow Datasets) and a TPU v3-8 or better. The paper
reports 67.1 % for drconv_x0_5; ShuffleNetV2's authors report 61.1 for x0_5 (`convzoo.models.info(NAME).reported`).

The recipe of DRConv was published nowhere that we know of. This one is inferred: it is what the same group's code for
ShuffleNetV2 and WeightNet does alike, 240 epochs of 1024 pictures a step, momentum without Nesterov, a rate of 0.5 that
falls linearly to 0 without a warm-up, weight decay of 4e-5, label smoothing of 0.1, the inception crop, colours
jittered by 0.4, bilinear resizing. Among other things, theirs feeds raw pixels in the order blue, green, red, has no
decay on biases, other initial weights, and at its end steps for the statistics of batch normalisation. bfloat16
is ours.

`--config.model.overrides.regions=1` is the control that tells whether regions add anything to one kernel an image;
`bank_size` and `generator` are overrides of the region-aware variants too.
"""

from convzoo.configs import base

_WIDTHS = ("x0_5", "x1_0", "x1_5", "x2_0")
VARIANTS = (*_WIDTHS, *(f"drconv_{width}" for width in _WIDTHS))


def get_config(variant: str = "drconv_x0_5"):
    """The recipe for one of VARIANTS."""
    variant = variant or "drconv_x0_5"
    if variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise ValueError(f"configs/shufflenet_v2_drconv_imagenet.py has no variant {variant!r}; known: {known}")
    config = base.get_config()
    config.model.name = f"shufflenet_v2_{variant}"
    if variant.startswith("drconv"):
        with config.unlocked():
            # Here to be changed from the command line.
            config.model.overrides.regions = 8
            config.model.overrides.bank_size = 8
            config.model.overrides.generator = "shared_bank"

    config.data.source = "tfds:imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.jitter = (0.4, 0.4, 0.4)
    config.data.interpolation = "bilinear"

    config.batch_size = 1024
    config.epochs = 240.0
    config.precision = "mixed_bfloat16"
    config.label_smoothing = 0.1
    config.weight_decay = 4e-5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.5
    config.optimizer.nesterov = False
    config.schedule.name = "linear"

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 1.0
    return config
