"""RetinaNet on COCO 2017 with ShuffleNetV2, with DRConv (arXiv 2003.12243) and without.

    python train.py --config=configs/retinanet_shufflenet_coco.py:drconv --tpu=local --workdir=gs://BUCKET/retinanet

Variants: static, drconv. The paper names detection as a task of DRConv; its detector and recipe are not known. The
recipe is RetinaNet's (arXiv 1708.02002), scaled to 256 images per step and prolonged to 36 epochs, with a pyramid and
predictors of 128 channels and separable convolutions.

Not run: needs COCO and a TPU.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants


@variants("static", "drconv", default="drconv")
def get_config(variant):
    """Returns the recipe of one detector."""
    config = base.get_config()
    config.task = "detection"
    config.model.name = "shufflenet_v2_x1_0" if variant == "static" else "shufflenet_v2_drconv_x1_0"
    config.model.image_size = 512
    config.detector.neck = "fpn"
    config.detector.lite = True
    config.detector.pyramid_filters = 128
    config.detection.focal_alpha = 0.25
    config.detection.nms_threshold = 0.5

    config.data.source = "tfds:coco/2017"
    config.data.eval_split = "validation"
    config.data.crop_area = (0.1, 1.0)
    config.data.crop_aspect = (0.5, 2.0)

    config.batch_size = 256
    config.epochs = 36.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 1e-4
    config.clip_norm = 10.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.16  # 0.01 per 16 images
    config.schedule.warmup_epochs = 1.0
    config.steps_per_loop = 100
    config.eval_every_epochs = 3.0
    return config
