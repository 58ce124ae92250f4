"""Creates a golden of timm, torchvision or efficientnet-lite-pytorch; see stand_in.py. Needs it and torch.

python tests/goldens/make_torch.py timm resnet50 224
python tests/goldens/make_torch.py lukemelas efficientnet-lite0 64
"""

import json
import sys

import numpy as np
import stand_in
import torch


def make(package, network, size):
    if package == "timm":
        import timm

        model = timm.create_model(network)
    elif package == "lukemelas":
        import efficientnet_lite_pytorch

        model = efficientnet_lite_pytorch.EfficientNet.from_name(network)
        model._global_params = model._global_params._replace(drop_connect_rate=0.0)
    else:
        import torchvision

        model = torchvision.models.get_model(network)
    name = f"{package}_{network}"
    state = model.state_dict()
    # Banks of expert kernels are matrices whose rows are experts; the only other matrix is the classifier.
    mixed = [key for key, value in state.items() if value.ndim == 2 and ".conv_" in key]
    meta = {
        "model": name,
        "input_size": size,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "fill": {"gain": 1.5, "mixed_std": 0.05, "mixed": mixed},
        "state_dict": [[key, list(value.shape)] for key, value in state.items()],
    }
    (stand_in.FOLDER / f"{name}.json").write_text(json.dumps(meta))
    np.savez(stand_in.FOLDER / f"{name}.npz")
    for key, value in stand_in.load(name).items():
        state[key].copy_(torch.from_numpy(value))
    images = torch.from_numpy(stand_in.images(name)).permute(0, 3, 1, 2)
    with torch.no_grad():
        measure(model, torch.cat([images, torch.randn(6, *images.shape[1:])]))
        logits = model.eval()(images).numpy()
    statistics = {f"stat:{key}": value.numpy() for key, value in state.items() if "running" in key}
    np.savez(stand_in.FOLDER / f"{name}.npz", logits=logits, **statistics)


def measure(model, images):
    """Statistics of every batch normalisation, of these images alone."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
        elif "drop" in type(module).__name__.lower() or type(module).__name__ == "StochasticDepth":
            module.p = module.drop_prob = 0.0
    model.train()(images)


if __name__ == "__main__":
    torch.manual_seed(0)
    make(sys.argv[1], sys.argv[2], int(sys.argv[3]))
