"""Verification of handwritten digits: trained on halves of 0 to 6, evaluated on pairs of 7 to 9.

    python train.py --config=configs/verification_digits.py --workdir=runs/verification
    python eval.py --workdir=runs/verification --checkpoint=newest
    python scripts/export.py --workdir=runs/verification --checkpoint=newest

Training never sees 7, 8 and 9. Seven classes are too few to learn embeddings for other digits, so training joins
halves of two digits to 784 classes. The network is ResNet-18 with half of its channels at 16x16 pixels, and a linear
embedding.

Measured with seeds 0 and 1 (TensorFlow 2.21, float32): 90.1 and 90.0 %. With random weights
(--config.optimizer.learning_rate=0.0 --config.schedule.warmup_epochs=0.0 --config.epochs=0.34, seed 1): 56.6 %.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants


@variants()
def get_config(variant):
    """Returns the experiment; it has no variants."""
    config = base.get_config()
    config.task = "verification"
    config.model.name = "resnet18_cifar"
    config.model.image_size = 16
    config.model.overrides = {"width_coefficient": 0.5}
    config.verification.embedding_size = 128
    config.verification.pairs = "digits:classes=7-9"
    config.verification.loss = "softmax"
    config.verification.scale = 16.0
    config.verification.mirror = False

    config.data.source = "digits:classes=0-6,halves=48"
    config.data.eval_split = "train+test"
    config.data.crop_area = None
    config.data.crop_padding = 1  # of 8 pixels
    config.data.flip = False

    config.batch_size = 128
    config.epochs = 5.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.2
    config.schedule.warmup_epochs = 0.5
    config.weight_decay = 2e-3
    config.steps_per_loop = 98
    config.eval_every_epochs = 5.0
    config.checkpoint_every_epochs = 5.0
    return config
