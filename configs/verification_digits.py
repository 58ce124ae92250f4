"""Verification of handwritten digits: trained on 0 to 6, evaluated on pairs of 7 to 9, which training never saw.

    python train.py --config=configs/verification_digits.py --workdir=runs/verification
    python eval.py --workdir=runs/verification --checkpoint=newest
    python scripts/export_saved_model.py --workdir=runs/verification --checkpoint=newest

The network is MobileFaceNet with half of its channels at 32x32 pixels. Seven classes are too
few to learn embeddings for other digits. configs/verification_glyphs.py has 256 classes.

Measured on two CPU cores that two other trainings used (TensorFlow 2.21, float32): 1.2 to 1.7 minutes; 71.8, 68.4 and
70.6 % accuracy with seeds 0 to 2. Random weights (--config.optimizer.learning_rate=0.0 --config.epochs=2.0, seeds 1 and
2): 61.6 and 58.4 %.
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
    config.model.overrides = {"width_coefficient": 0.5, "stem_strides": 1, "embedding_filters": 128}
    config.verification.pairs = "digits:classes=7-9"
    config.verification.loss = "softmax"
    config.verification.scale = 8.0
    config.verification.mirror = False

    config.data.source = "digits:classes=0-6"
    config.data.train_split = "train+test"
    config.data.eval_split = "train+test"
    config.data.crop_area = None
    config.data.crop_padding = 1  # of 8 pixels
    config.data.flip = False

    config.batch_size = 64
    config.epochs = 10.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 1.0
    config.weight_decay = 5e-4
    config.steps_per_loop = 19
    config.eval_every_epochs = 10.0
    config.checkpoint_every_epochs = 10.0
    return config
