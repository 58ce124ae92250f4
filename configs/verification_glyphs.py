"""Verification of generated drawings: trained on 256 of them, evaluated on pairs of 64 that training never saw.

    python train.py --config=configs/verification_glyphs.py --workdir=runs/glyphs
    python eval.py --workdir=runs/glyphs --checkpoint=newest --split=train+test
    python scripts/export.py --workdir=runs/glyphs --checkpoint=newest

The network is MobileFaceNet with a quarter of its channels at 32x32 pixels. Variants: drconv, with 8 regions; seesaw,
with uneven groups and channel shuffle. Training evaluates on pairs of 16 images of each of the 64.

Measured on two CPU cores (TensorFlow 2.21, float32): 2.8 minutes; 95.7, 95.3 and 95.5 % accuracy on pairs of all 20
images with seeds 0 to 2; 51 % with random weights (--config.optimizer.learning_rate=0.0 --config.epochs=2.0).
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_NETWORKS = {"": "mobile_facenet", "drconv": "mobile_facenet_drconv", "seesaw": "seesaw_facenet"}


@variants("drconv", "seesaw")
def get_config(variant):
    """Returns the experiment of a variant; without a variant MobileFaceNet."""
    config = base.get_config()
    config.task = "verification"
    config.model.name = _NETWORKS[variant]
    config.model.image_size = 32
    config.model.overrides = {"width_coefficient": 0.25, "stem_strides": 1, "embedding_filters": 64}
    config.verification.pairs = "glyphs:classes=64,first=1001"
    config.verification.mirror = False  # a mirrored drawing is another one
    config.verification.scale = 32.0
    config.verification.margin = 0.3

    config.data.source = "glyphs:classes=256"
    config.data.eval_split = "train"
    config.data.crop_area = (0.7, 1.0)
    config.data.flip = False

    config.batch_size = 64
    config.epochs = 15.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 1.0
    config.weight_decay = 5e-4
    config.ema_decay = 0.99
    config.steps_per_loop = 64
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
