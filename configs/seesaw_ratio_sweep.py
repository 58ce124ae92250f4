"""How uneven should groups be? A small Seesaw-shuffle on digits with several ratios (arXiv 1905.03672).

    python train.py --config=configs/seesaw_ratio_sweep.py:r1_3 --workdir=runs/r1_3

A variant is a ratio: r1_1 (IGCV3's, where all groups are equal), r1_3 (the paper's), r1_7, r2_3 and r1_1_2. All
widths are multiples of 40, which all ratios divide. The README has the table of all, made by scripts/study.py.
"""

from convzoo.configs import quickstart

_RATIOS = {"r1_1": (1, 1), "r1_3": (1, 3), "r1_7": (1, 7), "r2_3": (2, 3), "r1_1_2": (1, 1, 2)}
VARIANTS = tuple(_RATIOS)


def get_config(variant: str = "r1_3"):
    """The experiment of one of VARIANTS."""
    variant = variant or "r1_3"
    if variant not in VARIANTS:
        raise ValueError(f"configs/seesaw_ratio_sweep.py has no variant {variant!r}; known: {', '.join(VARIANTS)}")
    config = quickstart.get_config()
    config.model.name = "seesawnet_shuffle_0_5d"
    with config.unlocked():
        config.model.overrides = {
            "stem_filters": 40,
            "stages": ((1, 40, 1, 1), (3, 40, 2, 2), (3, 80, 2, 2)),
            "ratio": _RATIOS[variant],
            "dropout_rate": 0.1,
        }
    return config
