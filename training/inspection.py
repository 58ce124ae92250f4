"""What a network does with images: region maps of DRConv, routing weights of CondConv, detections."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from convzoo import data, models
from convzoo.models.region_masks import masks
from convzoo.tasks import Detection
from convzoo.tasks.drawing import draw_boxes, draw_label_maps, draw_matrices, first_images

NUM_REGION_IMAGES = 16  # images from which the shares of the regions are computed
NUM_DRAWN = 4  # of these, images drawn in TensorBoard
NUM_ROUTED_IMAGES = 128  # images from which the statistics of routing weights are computed
_MIN_SCORE = 0.3  # of a detection that is drawn
_IMAGES_PER_CALL = 16
_MAX_CLASSES = 20  # drawn
_DOMINANT_SHARE = 0.99  # a region with a larger share of the pixels leaves the other regions unused
_UNUSED_SHARE = 0.01  # an expert is unused if its routing weight stays below this share of the block's largest
_CONSTANT_DEVIATION = 0.001  # routing weights that vary less between images make a static layer


class Summary(NamedTuple):
    """A summary of the first images of a split.

    Attributes:
        scalars: Numbers by TensorBoard tag.
        images: PNG files by TensorBoard tag.
        messages: Findings that users should know, such as unused experts.
    """

    scalars: dict[str, float]
    images: dict[str, bytes]
    messages: list[str]


class _Inspection:
    """Computes several outputs for images.

    Args:
        function: Maps images to a dict of outputs; not called if there are none.
        names: Names of the outputs, such as those of blocks.
        strategy: The distribution strategy in whose scope the network was built.

    Attributes:
        names: list of str.
    """

    def __init__(self, function: Callable, names: Iterable[str], strategy: tf.distribute.Strategy):
        self.names, self._strategy = list(names), strategy
        self._compiled = tf.function(lambda images: strategy.run(function, args=(images,)))

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs for normalized images."""
        if not self.names:
            return {}
        parts = []
        for first in range(0, len(images), _IMAGES_PER_CALL):
            part = images[first : first + _IMAGES_PER_CALL]
            padding = [(0, _IMAGES_PER_CALL - len(part)), *[(0, 0)] * (images.ndim - 1)]  # one shape, compiled once
            outputs = self._compiled(tf.constant(np.pad(part, padding)))
            # Every replica computes the outputs of all images.
            local = {name: self._strategy.experimental_local_results(outputs[name])[0] for name in self.names}
            parts.append({name: values[: len(part)] for name, values in local.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in self.names}


class RegionMaps(_Inspection):
    """Computes the region maps that a network assigns to images (DRConv, arXiv 2003.12243).

    A call returns the region indices [images, height, width] of each block.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The distribution strategy.

    Attributes:
        names: Names of the blocks with a mask.
        regions: Number of regions of each of them, by name.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy):
        with strategy.scope():
            network = models.region_maps(model)
        super().__init__(network, network.output if network else (), strategy)
        self.regions = {name: mask.regions for name, mask in masks(model).items()}

    def shares(self, maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns each region's share of the pixels of each image, [images, regions], by block name."""
        return {
            name: np.stack([np.bincount(image.ravel(), minlength=count) / image.size for image in maps[name]])
            for name, count in self.regions.items()
        }

    def summarize(self, source: data.Source, split: str, settings: Mapping[str, Any]) -> Summary:
        """Summarizes the first images of a split; `settings` are arguments of `data.eval_dataset`."""
        images, _ = first_images(source, split, NUM_REGION_IMAGES, **settings)
        maps = self(images)
        shares = {name: values.mean(0) for name, values in self.shares(maps).items()}
        drawn = {name: block_maps[:NUM_DRAWN] for name, block_maps in maps.items()}
        png = draw_label_maps(images[:NUM_DRAWN], drawn, self.regions, mean=settings["mean"], std=settings["std"])
        scalars = {f"regions/{name}/{index}": share for name in shares for index, share in enumerate(shares[name])}
        messages = []
        if dominated := [name for name, block in shares.items() if max(block) > _DOMINANT_SHARE]:
            messages.append(
                f"one region covers over {_DOMINANT_SHARE:.0%} of the pixels in {', '.join(dominated)}; the other "
                "regions are unused there"
            )
        return Summary(scalars, {"regions": png}, messages)


class RoutingWeights(_Inspection):
    """Computes the routing weights that a network gives to images (CondConv, arXiv 1904.04971).

    A call returns the routing weights [images, experts] of each block.

    Args:
        model: The network, built in the strategy's scope.
        strategy: The distribution strategy.

    Attributes:
        names: Names of the blocks with routing weights.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy):
        with strategy.scope():
            network = models.routing_weights(model)
        super().__init__(network, network.output if network else (), strategy)

    def summarize(self, source: data.Source, split: str, settings: Mapping[str, Any]) -> Summary:
        """Summarizes the first images of a split; `settings` are arguments of `data.eval_dataset`.

        The scalars are the mean routing weight of each expert, "routing/BLOCK/EXPERT", and the standard deviation
        over images, averaged over experts, "routing/BLOCK/deviation".
        """
        images, labels = first_images(source, split, NUM_ROUTED_IMAGES, **settings)
        weights = self(images)
        scalars = {}
        for name, values in weights.items():
            scalars |= {f"routing/{name}/{expert}": mean for expert, mean in enumerate(values.mean(0))}
            scalars[f"routing/{name}/deviation"] = values.std(0).mean()
        return Summary(scalars, {"routing": draw_by_class(weights, labels, source)}, routing_messages(weights))


class Detections(_Inspection):
    """Computes the detections of a network.

    A call returns "boxes", "scores", "classes" and "count", see `tasks.boxes.detect`.

    Args:
        model: A detector, built in the strategy's scope.
        strategy: The distribution strategy.
        task: The task.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy, task: Detection):
        def detect(images):
            return task.detect(model(images, training=False))

        super().__init__(detect, ("boxes", "scores", "classes", "count"), strategy)

    def summarize(self, source: data.Source, split: str, settings: Mapping[str, Any]) -> Summary:
        """Draws the first images of a split with true and predicted boxes; `settings` as for `data.eval_dataset`."""
        images, labels = first_images(source, split, NUM_DRAWN, **settings)
        boxes = {"truth": labels, "network": self(images)}
        normalization = {"mean": settings["mean"], "std": settings["std"]}
        png = draw_boxes(images, boxes, source.class_names, min_score=_MIN_SCORE, **normalization)
        return Summary({}, {"detections": png}, [])


def draw_by_class(values: Mapping[str, np.ndarray], labels: np.ndarray, source: data.Source) -> bytes:
    """Draws the mean over the images of each class, a panel for each block: the paper's figure 6 for CondConv.

    Args:
        values: Routing weights or shares of regions, [images, columns], by block name.
        labels: Labels of the images.
        source: The data source. Images with other labels than one class have no class; the mean of all is drawn.

    Returns:
        A PNG file, with the first classes that the images have.
    """
    if source.label_kind != "class":
        return draw_matrices({name: block.mean(0, keepdims=True) for name, block in values.items()})
    classes = np.unique(labels)[:_MAX_CLASSES]
    means = {name: np.stack([block[labels == label].mean(0) for label in classes]) for name, block in values.items()}
    return draw_matrices(means, [source.class_names[label] for label in classes])


def routing_messages(weights: Mapping[str, np.ndarray]) -> list[str]:
    """Returns messages about experts that no image uses and blocks whose routing weights are the same for all images.

    Args:
        weights: Routing weights [images, experts] by block name.

    Example:
        >>> routing_messages({"block1": np.array([[0.9, 0.001], [0.5, 0.002]])})
        ['experts without use (routing weights below 1% of the largest): 1 of block1']
    """
    unused = {name: np.flatnonzero(_largest(values) < _UNUSED_SHARE) for name, values in weights.items()}
    constant = [name for name, values in weights.items() if values.std(0).max() < _CONSTANT_DEVIATION]
    messages = []
    if any(map(len, unused.values())):
        experts = [f"{', '.join(map(str, indices))} of {name}" for name, indices in unused.items() if len(indices)]
        messages.append(
            f"experts without use (routing weights below {_UNUSED_SHARE:.0%} of the largest): " + "; ".join(experts)
        )
    if constant:
        messages.append(
            f"routing weights of {', '.join(constant)} are the same for all images (standard deviation below "
            f"{_CONSTANT_DEVIATION}); the layers are static there"
        )
    return messages


def _largest(values: np.ndarray) -> Sequence[float]:
    """Returns the largest routing weight of each expert as a share of the largest of all."""
    largest = values.max(0)
    return largest / max(largest.max(), 1e-30)
