"""DeepLabv3+ on Cityscapes with the networks of two papers: LeanResNet (arXiv 1910.13157) and DRConv (2003.12243).

    python train.py --config=configs/segmentation_cityscapes.py:shufflenet_v2_drconv --workdir=runs/cityscapes \\
        --config.init.weights=shufflenet_v2_drconv_x1_0.weights.h5
    python eval.py --workdir=runs/cityscapes --checkpoint=best

Variants: as for configs/segmentation_voc.py, whose recipe it is with crops of 769 pixels and 90,000 steps; these two
numbers are usual for DeepLab here and were not checked against its papers. Evaluation is at 1024x2048 pixels.

Not run: Cityscapes has to be downloaded by hand, see its page in TensorFlow Datasets.
"""

from convzoo.configs import segmentation_voc
from convzoo.configs.variants import variants

_TRAIN_IMAGES, _STEPS = 2_975, 90_000


@variants(*segmentation_voc.get_config.variants, default="lean_resnet34")
def get_config(variant):
    """Returns the recipe of one network."""
    config = segmentation_voc.get_config(variant)
    with config.unlocked():
        config.model.image_size = 769
        config.segmentation.eval_size = (1024, 2048)
        config.data.source = "tfds:cityscapes/semantic_segmentation"
        config.data.train_split = "train"
        config.data.eval_split = "validation"
        config.eval_batch_size = 8
        config.epochs = _STEPS * config.batch_size / _TRAIN_IMAGES
        config.eval_every_epochs = 20.0
    return config
