"""MobileFaceNet and its relatives on MS1M with ArcFace, evaluated on LFW (arXiv 1804.07573, section 4).

    python train.py --config=configs/mobile_facenet_ms1m.py:drconv --tpu=local --workdir=gs://BUCKET/mobile_facenet \\
        --config.data.source=folder:gs://BUCKET/ms1m --config.verification.pairs=pairs:gs://BUCKET/lfw,gs://BUCKET/pairs.txt
    python eval.py --workdir=gs://BUCKET/mobile_facenet --checkpoint=best --split=test --tpu=local

Variants: drconv, seesaw, seesaw_share. `ms1m` has a folder of aligned faces of 112x112 pixels for each of 85,742
identities in ms1m/train; `lfw` has aligned faces with the names of LFW.

Batches of 512 faces, momentum 0.9, rate 0.1, divided by 10 at epochs 8, 12 and 14 of 16, weight decay 4e-5, ten times
that on the last linear layer. The authors of AirFace report that ArcFace does not converge for this network from random
initialization. Then train with `--config.verification.loss=softmax` first, and start from that run with
`--config.init.weights=WORKDIR`.

Not run: needs MS1M and a TPU. Reported accuracies: `convzoo.models.info(NAME).reported`.
"""

from convzoo.configs import base
from convzoo.configs.variants import variants

_NETWORKS = {
    "": "mobile_facenet",
    "drconv": "mobile_facenet_drconv",
    "seesaw": "seesaw_facenet",
    "seesaw_share": "seesaw_facenet_share",
}


@variants("drconv", "seesaw", "seesaw_share")
def get_config(variant):
    """Returns the recipe of one network; without a variant MobileFaceNet."""
    config = base.get_config()
    config.task = "verification"
    config.model.name = _NETWORKS[variant]
    config.verification.pairs = "pairs:/data/lfw,/data/lfw/pairs.txt"

    config.data.source = "folder:/data/ms1m"
    config.data.crop_area = None  # the faces are aligned

    config.batch_size = 512
    config.epochs = 16.0
    config.precision = "mixed_bfloat16"
    config.weight_decay = 4e-5
    config.weight_decay_multipliers = (("head_embedding_conv/*", 10.0),)
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.nesterov = False
    config.schedule.name = "step"
    config.schedule.milestones = (8.0, 12.0, 14.0)
    config.schedule.decay_rate = 0.1
    config.steps_per_loop = 500
    return config
