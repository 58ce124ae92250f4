"""Creates the golden of torchvision's DeepLabv3; see stand_in.py. Needs torch and torchvision.

python tests/goldens/make_deeplab.py
"""

import json

import numpy as np
import stand_in
import torch
import torchvision
from make_torch import measure

NAME, SIZE = "torchvision_deeplabv3_resnet50", 200
STEP = 8  # every eighth logit is stored


def main():
    model = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    )
    state = model.state_dict()
    meta = {
        "model": NAME,
        "input_size": SIZE,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "fill": {"gain": 1.5, "mixed_std": 0.05, "mixed": []},
        "state_dict": [[key, list(value.shape)] for key, value in state.items()],
    }
    (stand_in.FOLDER / f"{NAME}.json").write_text(json.dumps(meta))
    np.savez(stand_in.FOLDER / f"{NAME}.npz")
    for key, value in stand_in.load(NAME).items():
        state[key].copy_(torch.from_numpy(value))
    images = torch.from_numpy(stand_in.images(NAME)).permute(0, 3, 1, 2)
    with torch.no_grad():
        measure(model, torch.cat([images, torch.randn(2, *images.shape[1:])]))
        logits = model.eval()(images)["out"].permute(0, 2, 3, 1).numpy()
    statistics = {f"stat:{key}": value.numpy() for key, value in state.items() if "running" in key}
    np.savez(stand_in.FOLDER / f"{NAME}.npz", logits=logits[:, ::STEP, ::STEP], **statistics)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
