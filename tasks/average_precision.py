"""Average precision of detections over a split, computed by pycocotools as in the COCO and Pascal VOC challenges."""

import contextlib
import importlib.util
import io
from collections.abc import Mapping

import numpy as np

from convzoo.errors import ConfigError

# Metric: position in `COCOeval.stats`.
_STATS = {"map": 0, "map50": 1, "map75": 2, "map_small": 3, "map_medium": 4, "map_large": 5, "recall": 8}


def require_pycocotools() -> None:
    """Raises ConfigError if pycocotools is not installed."""
    if importlib.util.find_spec("pycocotools") is None:
        raise ConfigError("detection is evaluated with pycocotools; install it with: pip install 'convzoo[detection]'")


def average_precision(
    truths: Mapping[str, np.ndarray], detections: Mapping[str, np.ndarray]
) -> dict[str, float | dict[int, float]]:
    """Returns the metrics of COCO's detection challenge and the mean average precision of VOC 2007.

    Boxes are (top, left, bottom, right) in units of the image's height and width; "size" converts them to pixels.
    A metric without an object that counts for it, such as small ones, is left out.

    Args:
        truths: "boxes" [images, slots, 4], "classes" and "areas" (in pixels) [images, slots], "count", "num_crowds"
            [images], "size" [images, 2]: the first `count` boxes are objects, the next `num_crowds` are crowds.
        detections: "boxes" [images, slots, 4], "scores" and "classes" [images, slots], "count" [images].

    Returns:
        "map", the mean over classes and over IoU thresholds from 0.5 to 0.95; "map50" and "map75" at one threshold;
        "map_small", "map_medium", "map_large" of objects below 32^2, below 96^2 and of more pixels; "recall", the
        average recall of 100 detections; "voc_map50", the 11-point average precision at an IoU of 0.5; "class_map",
        the "map" of each class that has objects.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    scale = np.tile(truths["size"], [1, 2]).astype(np.float64)  # height, width, height, width
    images = [{"id": index, "height": int(h), "width": int(w)} for index, (h, w) in enumerate(truths["size"])]
    objects, found = [], []
    for image, size in enumerate(scale):
        number = int(truths["count"][image])
        for slot in range(number + int(truths["num_crowds"][image])):
            objects.append(
                {
                    "id": len(objects) + 1,  # pycocotools takes 0 for no match
                    "image_id": image,
                    "category_id": int(truths["classes"][image, slot]),
                    "bbox": _to_xywh(truths["boxes"][image, slot], size),
                    "area": float(truths["areas"][image, slot]),
                    "iscrowd": int(slot >= number),
                }
            )
        for slot in range(int(detections["count"][image])):
            box = _to_xywh(detections["boxes"][image, slot], size)
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": image,
                    "category_id": int(detections["classes"][image, slot]),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "score": float(detections["scores"][image, slot]),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        # Detections of classes without objects do not count.
        classes = sorted({annotation["category_id"] for annotation in objects})
        categories = [{"id": number} for number in classes]
        sides = []
        for annotations in (objects, found):
            side = COCO()
            side.dataset = {"images": images, "categories": categories, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = {name: float(evaluation.stats[index]) for name, index in _STATS.items() if evaluation.stats[index] >= 0}
    # [IoU thresholds, recalls 0, 0.01, ..., 1, classes] for all areas and 100 detections; -1 without objects.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    has_objects = precision[0, 0] >= 0
    if has_objects.any():
        metrics["voc_map50"] = float(precision[0, ::10, has_objects].mean())
    of_classes = zip(classes, precision.mean((0, 1)).tolist(), has_objects, strict=True)
    metrics["class_map"] = {number: value for number, value, counts in of_classes if counts}
    return metrics


def _to_xywh(box, size):
    """Returns left, top, width and height in pixels."""
    top, left, bottom, right = box * size
    return [float(left), float(top), float(right - left), float(bottom - top)]
