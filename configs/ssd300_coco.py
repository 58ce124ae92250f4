"""SSD300 on COCO 2017 with MobileNetV1, with CondConv in its last blocks (arXiv 1904.04971, table 2) and without.

    python train.py --config=configs/ssd300_coco.py:condconv_x1_0 --tpu=local --workdir=gs://BUCKET/ssd300
    python eval.py --workdir=gs://BUCKET/ssd300 --checkpoint=best --split=validation --tpu=local

Variants: x0_5, x0_75, x1_0, condconv_x0_5, condconv_x0_75, condconv_x1_0.

The recipe is `ssd_mobilenet_v1_300x300_coco14_sync.config` of TensorFlow's Object Detection API: 20,000 steps of
1,024 images, momentum 0.9, cosine decay from 0.9 after 1,000 warm-up steps. It warms up from 0.3, here from 0. Set
`--config.init.weights=FILE.weights.h5` to weights of the backbone from ImageNet, with which the recipe starts.

Not run: needs COCO and a TPU. Reported mAP of the detectors: `convzoo.models.detector_info(NAME).reported`.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_WIDTHS = ("x0_5", "x0_75", "x1_0")
_TRAIN_IMAGES, _BATCH_SIZE = 118_287, 1024
_EPOCHS_PER_STEP = _BATCH_SIZE / _TRAIN_IMAGES


@variants(*_WIDTHS, *(f"condconv_{width}" for width in _WIDTHS), default="condconv_x1_0")
def get_config(variant):
    """Returns the recipe of one detector."""
    config = base.get_config()
    config.task = "detection"
    config.model.name = f"mobilenet_v1_{variant}"
    config.model.image_size = 300
    config.model.overrides = {"bn_momentum": 0.97, "bn_epsilon": 1e-3}

    config.data.source = "tfds:coco/2017"
    config.data.eval_split = "validation"
    config.data.crop_area = (0.1, 1.0)
    config.data.crop_aspect = (0.5, 2.0)
    config.data.interpolation = "bilinear"

    config.batch_size = _BATCH_SIZE
    config.eval_batch_size = 256
    config.epochs = 20_000 * _EPOCHS_PER_STEP
    config.precision = "mixed_bfloat16"
    config.weight_decay = 4e-5
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.9
    config.optimizer.nesterov = False
    config.schedule.warmup_epochs = 1_000 * _EPOCHS_PER_STEP
    config.steps_per_loop = 100
    config.eval_every_epochs = 10.0
    return config
