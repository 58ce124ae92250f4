"""MobileNetV1 and MobileNetV2 on ImageNet with region-aware convolutions (DRConv, arXiv 2003.12243) and without.

    python train.py --config=configs/mobilenet_drconv_imagenet.py:v2_drconv_x1_0 --tpu=local --workdir=gs://B/drconv

Variants: v1_drconv_x0_25, v1_drconv_x0_5, v1_drconv_x0_75, v1_drconv_x1_0, v2_drconv_x1_0; and each without drconv, for
example v2_x1_0.

Not run: needs ImageNet (prepared by hand, see the catalog of TensorFlow Datasets) and a TPU v3-8 or larger.

The paper's recipe is unknown to us. This is the recipe of configs/condconv_imagenet.py for the same static networks.
Settings of the operator are `regions`, `bank_size`, `generator` and `mask_per`:
`--config.model.operator.mask_per=layer` computes a mask from each convolution's own input.
"""

from convzoo.configs import condconv_imagenet
from convzoo.configs.variants import variants

_WIDTHS = ("v1_x0_25", "v1_x0_5", "v1_x0_75", "v1_x1_0", "v2_x1_0")
_DRCONV = {width.replace("_", "_drconv_", 1): width for width in _WIDTHS}


@variants(*_DRCONV, *_WIDTHS, default="v2_drconv_x1_0")
def get_config(variant):
    """Returns the recipe of one network."""
    config = condconv_imagenet.get_config(f"mobilenet_{_DRCONV.get(variant, variant)}")
    config = config.copy_and_resolve_references().unlock()
    config.model.name = f"mobilenet_{variant}"
    if variant in _DRCONV:
        # The command line can change only settings that exist.
        config.model.operator = {"regions": 8, "bank_size": 8, "generator": "shared_bank", "mask_per": "block"}
    return config
