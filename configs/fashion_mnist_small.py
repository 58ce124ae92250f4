"""Small networks at full resolution on Fashion-MNIST: 44,154 weights, trained until they converge.

    python train.py --config=configs/fashion_mnist_small.py:condconv --workdir=runs/small

Needs Debian's package dataset-fashion-mnist, or the files in another folder: `--config.data.source=idx:/my/folder`. The
last 5,000 training images select the best checkpoint; only `eval.py` uses the test split.

Variants: static, an inverted-residual network of seven blocks; condconv, its blocks 1 to 6 with 8 experts, as
published; condconv_zeros, with routing kernels that start at zero. Times and accuracies: docs/studies.md.
"""

from convzoo.configs import fashion_mnist
from convzoo.configs.variants import variants

BLOCKS = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s11_e4_i16_o24",
    "r2_k3_s22_e4_i24_o32",
    "r2_k3_s22_e4_i32_o64",
)
_CONDCONV = {"name": "CondConv", "num_experts": 8, "first_block": 1}
_OPERATORS = {
    "static": {},
    "condconv": _CONDCONV,
    "condconv_zeros": {**_CONDCONV, "routing_initializer": "zeros"},
}


@variants(*_OPERATORS, default="static")
def get_config(variant):
    """Returns the experiment of a variant."""
    config = fashion_mnist.get_config()
    config.model.name = "mobilenet_v2_x1_0"
    config.model.overrides = {
        "blocks": BLOCKS,
        "width_coefficient": 0.25,
        "stem_strides": 1,
        "dropout_rate": 0.0,
        "bn_momentum": 0.99,
    }
    config.model.operator = _OPERATORS[variant]
    config.data.crop_area = None
    config.data.crop_padding = 4
    config.label_smoothing = 0.0
    config.epochs = 12.0
    config.weight_decay = 5e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.schedule.warmup_epochs = 0.25
    config.ema_decay = 0.995
    return config
