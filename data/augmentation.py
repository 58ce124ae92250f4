"""The settings of training-time augmentation."""

import dataclasses

from convzoo.data.checks import check_setting
from convzoo.errors import DataError

# Limits of each numeric field, as `check_setting` takes them. 30 is above every published RandAugment magnitude.
_LIMITS = {
    "crop_area": {"length": 2, "above": 0, "high": 1},
    "crop_aspect": {"length": 2, "above": 0},
    "crop_padding": {"integer": True, "low": 1},
    "scale_jitter": {"length": 2, "low": 1 / 16, "high": 16},
    "color_jitter": {"length": 3, "low": 0},
    "rand_augment": {"length": 2, "low": 0, "high": 30},
    "random_erasing": {"low": 0, "high": 1},
    "mixup": {"above": 0},
    "cutmix": {"above": 0},
    "repeated_augmentation": {"integer": True, "low": 1},
}
_OPTIONAL = ("crop_area", "crop_padding", "scale_jitter", "color_jitter", "rand_augment", "mixup", "cutmix")
_NEED_CLASS = ("crop_padding", "auto_augment", "rand_augment", "random_erasing", "mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Training-time augmentation, in the order of application. None turns an augmentation off.

    Attributes:
        crop_area: (lowest, highest) fraction of the image's area that an Inception crop covers.
        crop_aspect: (lowest, highest) width / height of that crop.
        crop_padding: Black pixels added on each side before a random crop of the image's own size, as is usual for
            CIFAR. Excludes crop_area.
        scale_jitter: (lowest, highest) factor by which an image with a label map is enlarged before a random crop of
            the network's input size, as DeepLab does. Where the image is smaller, gray pixels without a class fill the
            crop. Excludes crop_area.
        flip: Whether half of the images are mirrored left to right.
        color_jitter: (brightness, contrast, saturation): maximum distance of each factor from 1, as in torchvision's
            ColorJitter. Each image has a random order of the three.
        auto_augment: Whether AutoAugment (arXiv 1805.09501) runs, with the EfficientNet code's ImageNet policy v0.
        rand_augment: (layers, magnitude) of RandAugment (arXiv 1909.13719). Excludes auto_augment.
        random_erasing: Probability of random erasing (arXiv 1708.04896).
        mixup: alpha of mixup's Beta distribution (arXiv 1710.09412).
        cutmix: alpha of CutMix's (arXiv 1905.04899). With both, each image uses one of the two, with probability 1/2.
        repeated_augmentation: Number of consecutive, independently augmented copies of each image (arXiv 1901.09335).
            An epoch still has as many examples, so it contains fewer different images.

    Example:
        >>> augmentation = Augmentation(color_jitter=(0.4, 0.4, 0.4), mixup=0.2)
        >>> augmentation.crop_area, augmentation.mixes
        ((0.08, 1.0), True)
    """

    crop_area: tuple[float, float] | None = (0.08, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int | None = None
    scale_jitter: tuple[float, float] | None = None
    flip: bool = True
    color_jitter: tuple[float, float, float] | None = None
    auto_augment: bool = False
    rand_augment: tuple[int, float] | None = None
    random_erasing: float = 0.0
    mixup: float | None = None
    cutmix: float | None = None
    repeated_augmentation: int = 1

    @property
    def mixes(self):
        """True if images and labels of a batch are mixed."""
        return self.mixup is not None or self.cutmix is not None

    @property
    def works_on_bytes(self):
        """True if images are rounded to uint8 after resizing, on which the policies, erasing and mixing are defined."""
        optional = (self.color_jitter, self.rand_augment, self.mixup, self.cutmix)
        return any(value is not None for value in optional) or bool(self.auto_augment or self.random_erasing)

    def check(self, label_kind):
        """Raises DataError if a field is out of range, two fields conflict, or a field needs one label per image.

        Args:
            label_kind: LabelKind of the source.
        """
        for name, limits in _LIMITS.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            check_setting(name, value, **limits)
            if limits.get("length") == 2 and name != "rand_augment" and value[0] > value[1]:
                raise DataError(f"{name}={value!r} is not (lowest, highest); swap the two")
        if self.rand_augment is not None:
            check_setting("rand_augment[0]", self.rand_augment[0], integer=True, low=1)
        if self.crop_padding is not None and self.crop_area is not None:
            raise DataError(
                f"crop_padding={self.crop_padding} and crop_area={self.crop_area!r} exclude each other; set one to None"
            )
        if self.scale_jitter is not None and self.crop_area is not None:
            raise DataError(
                f"scale_jitter={self.scale_jitter!r} and crop_area={self.crop_area!r} exclude each other; set one to "
                "None"
            )
        if self.scale_jitter is not None and label_kind != "map":
            raise DataError(f"scale_jitter={self.scale_jitter!r} needs label maps; set it to None")
        if self.auto_augment and self.rand_augment is not None:
            raise DataError(f"auto_augment=True and rand_augment={self.rand_augment!r} exclude each other; use one")
        for name in () if label_kind == "class" else _NEED_CLASS:
            if getattr(self, name):
                raise DataError(
                    f"{name}={getattr(self, name)!r} needs one label per image, not maps or boxes; turn it off"
                )
