"""Seesaw-Net, and beside it IGCV3 and MobileNetV2, on ImageNet (arXiv 1905.03672).

    python train.py --config=configs/seesawnet_imagenet.py:shuffle_1_0d --tpu=local --workdir=gs://B/seesaw

Not run here: it needs ImageNet (prepared by hand, see the catalogue of TensorFlow Datasets) and a TPU v3-8 or better.
The paper reports 72.9 % for shuffle_1_0d: the best of 364 epochs, chosen on the validation split.

The recipe is that of the authors' code, which IGCV3's shares: 480 epochs of 96 pictures a step, momentum without
Nesterov, a rate of 0.045 times 0.98 every epoch, weight decay of 4e-5 on every weight, the inception crop, resized
bilinearly. Ours leaves batch normalisation out of the decay. For a larger batch raise the rate with it:
`--config.batch_size=768 --config.optimizer.learning_rate=0.36 --config.schedule.warmup_epochs=5`.
"""

from convzoo.configs import base

_DEPTHS = ("1_0d", "0_5d")
# Variant: network.
NETWORKS = {
    **{
        f"{kind}_{depth}": f"seesawnet_{kind}_{depth}"
        for kind in ("shuffle", "share_v0", "share_v1")
        for depth in _DEPTHS
    },
    **{f"igcv3_{depth}": f"igcv3_{depth}" for depth in _DEPTHS},
    "mobilenet_v2": "mobilenet_v2_x1_0",
}
VARIANTS = tuple(NETWORKS)


def get_config(variant: str = "shuffle_1_0d"):
    """The recipe for one of VARIANTS."""
    variant = variant or "shuffle_1_0d"
    if variant not in VARIANTS:
        raise ValueError(f"configs/seesawnet_imagenet.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = base.get_config()
    config.model.name = NETWORKS[variant]
    with config.unlocked():
        config.model.overrides.dropout_rate = 0.0

    config.data.source = "tfds:imagenet2012"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.interpolation = "bilinear"

    config.batch_size = 96
    config.epochs = 480.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 4e-5

    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.045
    config.optimizer.nesterov = False
    config.schedule.name = "exponential"
    config.schedule.decay_epochs = 1.0
    config.schedule.decay_rate = 0.98

    config.steps_per_loop = 1000
    config.eval_batch_size = 768
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 1.0
    return config
