"""Creates the golden of torchvision's detection functions. Needs torchvision and torch.

python tests/goldens/make_detection.py
"""

import pathlib

import numpy as np
import torch
import torchvision
from torchvision.models.detection import _utils, anchor_utils, image_list

FOLDER = pathlib.Path(__file__).parent


def _boxes(rng, count):
    """Returns boxes of (left, top, right, bottom) within 0..1."""
    corners = np.sort(rng.uniform(size=(count, 2, 2)), axis=1)
    return torch.tensor(corners.reshape(count, 4), dtype=torch.float32)


def main():
    rng = np.random.default_rng(0)
    # The default boxes of ssdlite320_mobilenet_v3_large, for an image of 320 x 320 pixels.
    generator = anchor_utils.DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95, clip=False)
    maps = [torch.zeros(1, 8, size, size) for size in (20, 10, 5, 3, 2, 1)]
    images = image_list.ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    default_boxes = generator(images, maps)[0] / 320
    boxes, others = _boxes(rng, 60), _boxes(rng, 60)
    offsets = _utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)).encode_single(boxes, others)
    targets, logits = torch.tensor(rng.integers(0, 2, 50).astype("float32")), torch.tensor(rng.normal(size=50) * 4)
    focal = torchvision.ops.sigmoid_focal_loss(logits, targets, alpha=0.75, gamma=2.0)
    scores, classes = torch.tensor(rng.uniform(size=60).astype("float32")), torch.tensor(rng.integers(0, 3, 60))
    kept = torchvision.ops.batched_nms(boxes, scores, classes, 0.5)
    np.savez(
        FOLDER / "torchvision_detection.npz",
        default_boxes=default_boxes.numpy(),
        boxes=boxes.numpy(),
        others=others.numpy(),
        iou=torchvision.ops.box_iou(boxes, others).numpy(),
        offsets=offsets.numpy(),
        targets=targets.numpy(),
        logits=logits.numpy(),
        focal=focal.numpy(),
        scores=scores.numpy(),
        classes=classes.numpy(),
        kept=kept.numpy(),
        version=torchvision.__version__,
    )


if __name__ == "__main__":
    main()
