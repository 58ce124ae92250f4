"""Verification of handwritten digits: trained on 0 to 6, evaluated on pairs of 7 to 9, which training never saw.

    python train.py --config=configs/verification_digits.py --workdir=runs/verification
    python eval.py --workdir=runs/verification --checkpoint=newest
    python scripts/export_saved_model.py --workdir=runs/verification --checkpoint=newest

The network is MobileFaceNet with a quarter of its channels at 32x32 pixels.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants


@variants()
def get_config(variant):
    """Returns the experiment; it has no variants."""
    config = base.get_config()
    config.task = "verification"
    config.model.name = "mobile_facenet"
    config.model.image_size = 32
    config.model.overrides = {"width_coefficient": 0.25, "stem_strides": 1, "embedding_filters": 32}
    config.verification.pairs = "digits:classes=7-9"
    config.verification.scale = 16.0
    config.verification.mirror = False

    config.data.source = "digits:classes=0-6"
    config.data.train_split = "train+test"
    config.data.eval_split = "train+test"
    config.data.crop_area = (0.6, 1.0)
    config.data.flip = False

    config.batch_size = 64
    config.epochs = 20.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 1.0
    config.weight_decay = 5e-4
    config.steps_per_loop = 19
    config.eval_every_epochs = 4.0
    config.checkpoint_every_epochs = 20.0
    return config
