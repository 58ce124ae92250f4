"""Seesaw-Net and the baselines IGCV3 and MobileNetV2 on ImageNet (arXiv 1905.03672).

    python train.py --config=configs/seesawnet_imagenet.py:shuffle_1_0d --tpu=local --workdir=gs://B/seesaw

Variants: shuffle, share_v0, share_v1 and igcv3, each with _1_0d and _0_5d, and mobilenet_v2, all with one recipe; and
mobilenet_v2_own with the recipe of its own paper.

Not run: needs ImageNet (prepared by hand, see the catalog of TensorFlow Datasets) and a TPU v3-8 or larger. The paper
reports 72.9 % for shuffle_1_0d, the best of 364 epochs on the validation split.

The recipe is the one of the authors' code, which IGCV3's code shares: 480 epochs of 96 images per step, momentum
without Nesterov, a learning rate of 0.045 that is multiplied by 0.98 every epoch, weight decay 4e-5 on all weights, the
inception crop and bilinear resizing. IGCV3's own recipe is the same. MobileNetV2's own (arXiv 1801.04381) has RMSProp
with decay and momentum of 0.9 instead; epsilon is that of its code. Their BatchNorm statistics are of 48 images, one of
two GPUs: with 8 replicas set `--config.batch_norm_replicas=4`. For a larger batch increase the rate in proportion:
`--config.batch_size=768 --config.optimizer.learning_rate=0.36 --config.schedule.warmup_epochs=5`.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

NETWORKS = {
    **{
        f"{kind}_{depth}": f"seesawnet_{kind}_{depth}"
        for kind in ("shuffle", "share_v0", "share_v1")
        for depth in ("1_0d", "0_5d")
    },
    "igcv3_1_0d": "igcv3_1_0d",
    "igcv3_0_5d": "igcv3_0_5d",
    "mobilenet_v2": "mobilenet_v2_x1_0",
}
_OWN = "mobilenet_v2_own"


@variants(*NETWORKS, _OWN, default="shuffle_1_0d")
def get_config(variant):
    """Returns the recipe of one network."""
    config = base.get_config()
    config.model.name = NETWORKS[variant.removesuffix("_own")]
    config.model.overrides = {"dropout_rate": 0.0}

    config.data.source = "tfds:imagenet2012"
    config.data.eval_split = "validation"
    config.data.interpolation = "bilinear"

    config.batch_size = 96
    config.eval_batch_size = 768
    config.epochs = 480.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 4e-5
    config.weight_decay_on = ("kernels", "biases", "batch_norm")
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.045
    config.optimizer.nesterov = False
    config.schedule.name = "exponential"
    config.schedule.decay_epochs, config.schedule.decay_rate = 1.0, 0.98

    if variant == _OWN:
        config.model.overrides.dropout_rate = 0.2
        config.weight_decay_on = ("kernels", "biases")
        config.optimizer.name, config.optimizer.nesterov = "rmsprop", None
        config.optimizer.epsilon = 1.0

    config.steps_per_loop = 1000
    config.eval_every_epochs = 5.0
    return config
