"""ShuffleNetV2 on ImageNet with region-aware convolutions (DRConv, arXiv 2003.12243) and without.

    python train.py --config=configs/shufflenet_v2_drconv_imagenet.py:drconv_x0_5 --tpu=local --workdir=gs://B/drconv

Variants: x0_5, x1_0, x1_5, x2_0, the baselines; drconv_x0_5 ... drconv_x2_0, the region-aware networks.

Not run: needs ImageNet (prepared by hand, see the catalog of TensorFlow Datasets) and a TPU v3-8 or larger. The paper
reports 67.1 % for drconv_x0_5; the authors of ShuffleNetV2 report 61.1 % for x0_5
(`convzoo.models.info(NAME).reported`).

No recipe of DRConv is known to be published. This recipe is inferred from what the same group's code for ShuffleNetV2
and WeightNet has in common: 240 epochs of 1024 images per step, momentum without Nesterov, a learning rate of 0.5 with
linear decay to 0 and no warm-up, weight decay 4e-5 on kernels only, label smoothing 0.1, the inception crop, color
jitter of 0.4 and bilinear resizing. Differences include: their input is raw BGR pixels, the initialization differs, and
extra steps at the end update the BatchNorm statistics. They do not use bfloat16.

`--config.model.operator.regions=1` is the control experiment: one generated kernel per image, without regions. Other
settings of the region-aware networks are `bank_size`, `generator` and `mask_per`.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_WIDTHS = ("x0_5", "x1_0", "x1_5", "x2_0")


@variants(*_WIDTHS, *(f"drconv_{width}" for width in _WIDTHS), default="drconv_x0_5")
def get_config(variant):
    """Returns the recipe of one network."""
    config = base.get_config()
    config.model.name = f"shufflenet_v2_{variant}"
    if variant.startswith("drconv"):
        # The command line can change only settings that exist.
        config.model.operator = {"regions": 8, "bank_size": 8, "generator": "shared_bank", "mask_per": "block"}

    config.data.source = "tfds:imagenet2012"
    config.data.eval_split = "validation"
    config.data.color_jitter = (0.4, 0.4, 0.4)
    config.data.interpolation = "bilinear"

    config.batch_size = 1024
    config.epochs = 240.0
    config.precision = "mixed_bfloat16"
    config.label_smoothing = 0.1
    config.weight_decay = 4e-5
    config.weight_decay_on = ("kernels",)
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.5
    config.optimizer.nesterov = False
    config.schedule.name = "linear"

    config.steps_per_loop = 313  # a quarter of an epoch
    config.eval_every_epochs = 5.0
    return config
