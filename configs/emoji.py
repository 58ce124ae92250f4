"""Categories of emoji: 64x64 pixels, nine classes, a test split drawn by another foundry.

    python scripts/prepare_emoji.py --google=... --twitter=... --output=data/emoji    # see there
    python train.py --config=configs/emoji.py:mobilenet_v2_condconv_slow --config.data.source=folder:data/emoji \
        --workdir=runs/emoji

Variants: those of configs/fashion_mnist_budget.py. `eval.py --split=test` measures the accuracy on Twitter's drawings
of emoji that the training has not seen; the validation split has Google's drawings of the same emoji. No study was
made.
"""

from convzoo.configs import fashion_mnist_budget
from convzoo.configs.variants import variants


@variants(*fashion_mnist_budget.get_config.variants, default="mobilenet_v2")
def get_config(variant):
    """Returns the experiment of a variant."""
    config = fashion_mnist_budget.get_config(variant)
    config.model.image_size = 64
    config.data.source = "folder:data/emoji"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.crop_area = (0.5, 1.0)
    config.data.crop_padding = None
    config.data.flip = True
    config.batch_size = 64
    config.epochs = 60.0
    config.label_smoothing = 0.1
    config.eval_every_epochs = 10.0
    config.checkpoint_every_epochs = 10.0
    return config
