"""A small Seesaw-shuffle network on digits with several ratios of group sizes (arXiv 1905.03672).

    python train.py --config=configs/seesaw_ratio_sweep.py:r1_3 --workdir=runs/r1_3

A variant is a ratio: r1_1 (equal groups, as in IGCV3), r1_3 (the paper's), r1_7, r2_3 and r1_1_2. All widths are
multiples of 40, which every ratio divides. scripts/study.py compares the ratios; docs/studies.md has the results.
"""

from convzoo.configs import quickstart
from convzoo.configs.variants import variants

_RATIOS = {"r1_1": (1, 1), "r1_3": (1, 3), "r1_7": (1, 7), "r2_3": (2, 3), "r1_1_2": (1, 1, 2)}


@variants(*_RATIOS, default="r1_3")
def get_config(variant):
    """Returns the quickstart with a Seesaw-shuffle network of one ratio."""
    config = quickstart.get_config()
    config.model.name = "seesawnet_shuffle_0_5d"
    config.model.overrides = {
        "stem_filters": 40,
        "stages": ((1, 40, 1, 1), (3, 40, 2, 2), (3, 80, 2, 2)),
        "dropout_rate": 0.1,
    }
    config.model.operator = {"ratio": _RATIOS[variant]}
    return config
