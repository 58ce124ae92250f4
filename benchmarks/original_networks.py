"""Logits of the original implementation of a network, for benchmarks/real_weights.py.

    python -m convzoo.benchmarks.original_networks mobilenet_v2_x1_0 STATE.pth IMAGES.npy LOGITS.npy

A program of its own, because PyTorch and TensorFlow do not always work in one process. It exits with status 3 if the
original framework is not installed.
"""

import sys

import numpy as np

NOT_INSTALLED = 3


def _mobilenet_v2():
    import torchvision

    return torchvision.models.mobilenet_v2()


def _efficientnet_lite0():
    import efficientnet_lite_pytorch

    return efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0")


NETWORKS = {"mobilenet_v2_x1_0": _mobilenet_v2, "efficientnet_lite0": _efficientnet_lite0}


def main(name, state, images, logits):
    try:
        import torch

        model = NETWORKS[name]()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    model.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
    inputs = np.load(images).transpose(0, 3, 1, 2).copy()
    with torch.no_grad():
        np.save(logits, model.eval()(torch.from_numpy(inputs)).numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
