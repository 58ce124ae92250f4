"""DeepLabv3+ on Pascal VOC 2012 with the networks of two papers: LeanResNet (arXiv 1910.13157) and DRConv (2003.12243).

    python train.py --config=configs/segmentation_voc.py:lean_resnet34 --workdir=runs/voc \\
        --config.init.weights=lean_resnet34.weights.h5
    python eval.py --workdir=runs/voc --checkpoint=best --override=config.segmentation.eval_flip=True \\
        --override='config.segmentation.eval_scales=(0.5,0.75,1.0,1.25,1.5,1.75)'

Variants: resnet34, lean_resnet34, shufflenet_v2, shufflenet_v2_drconv. The folder /data/VOC2012 has JPEGImages,
SegmentationClass with the masks of the 10,582 augmented images too, and ImageSets/Segmentation with train_aug.txt and
val.txt; SegmentationClass/labels.txt names the 21 classes. The papers do not describe their segmentation networks. The
recipe is DeepLab's (arXiv 1706.05587, section 4): crops of 513 pixels at scales of 0.5 to 2, batches of 16, a rate of
0.007 with the exponent 0.9, 30,000 steps; it starts from weights of ImageNet.

Not run: needs the images.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_NETWORKS = {
    "resnet34": "resnet34",
    "lean_resnet34": "lean_resnet34",
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_drconv": "shufflenet_v2_drconv_x1_0",
}
_FOLDER, _TRAIN_IMAGES, _STEPS = "/data/VOC2012", 10_582, 30_000


@variants(*_NETWORKS, default="lean_resnet34")
def get_config(variant):
    """Returns the recipe of one network."""
    config = base.get_config()
    config.task = "segmentation"
    config.model.name = _NETWORKS[variant]
    config.model.image_size = 513
    config.segmentation.output_stride = 16
    config.segmentation.eval_size = (513, 513)

    folders = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")
    config.data.source = "masks:" + ",".join(f"{_FOLDER}/{name}" for name in folders)
    config.data.train_split = "train_aug"
    config.data.eval_split = "val"
    config.data.crop_area = None
    config.data.scale_jitter = (0.5, 2.0)

    config.batch_size = 16
    config.epochs = _STEPS * config.batch_size / _TRAIN_IMAGES
    config.precision = "mixed_bfloat16"
    config.weight_decay = 1e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.007
    config.optimizer.nesterov = False
    config.schedule.name = "poly"
    config.eval_every_epochs = 5.0
    return config
