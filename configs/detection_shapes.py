"""Detection of generated discs, squares and triangles (`shapes_boxes`), for a first try in minutes on a CPU.

    python train.py --config=configs/detection_shapes.py --workdir=runs/boxes
    python eval.py --workdir=runs/boxes --checkpoint=best --split=test
    python scripts/draw_detections.py --workdir=runs/boxes --checkpoint=best --split=test --output=boxes.png

The network is MobileNetV1 with a quarter of its channels and a feature pyramid of strides 4 to 32 with 32 channels.
Variants: condconv, with 8 experts in the backbone's blocks from the sixth on; drconv, with 8 regions in the point-wise
convolutions of the backbone.

Measured without a variant, on two CPU cores (TensorFlow 2.21, float32): 7.8 minutes, 72.1 % mAP and 91.3 % mAP@0.5 on
the 1,024 test images.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_NETWORKS = {
    "": "mobilenet_v1_x0_25",
    "condconv": "mobilenet_v1_condconv_x0_25",
    "drconv": "mobilenet_v1_drconv_x0_25",
}


@variants("condconv", "drconv")
def get_config(variant):
    """Returns the experiment of a variant; without a variant the static network."""
    config = base.get_config()
    config.task = "detection"
    config.model.name = _NETWORKS[variant]
    config.model.image_size = 128
    config.detector.neck = "fpn"
    config.detector.lite = True
    config.detector.pyramid_filters = 32
    config.detector.head_convs = 1
    # Squares of 16 to 203 pixels.
    config.detector.min_level = 2
    config.detector.max_level = 5

    config.data.source = "shapes_boxes:size=128,examples=4096"
    config.data.train_split = "train[:3584]"
    config.data.eval_split = "train[3584:]"
    config.data.crop_area = (0.3, 1.0)
    config.data.crop_aspect = (0.75, 4 / 3)

    config.batch_size = 32
    config.epochs = 16.0
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1.0
    config.schedule.warmup_epochs = 1.0
    config.weight_decay = 4e-5
    config.clip_norm = 10.0
    config.ema_decay = 0.99
    config.steps_per_loop = 56
    config.eval_every_epochs = 4.0
    config.checkpoint_every_epochs = 4.0
    return config
