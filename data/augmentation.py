"""What training does to its pictures, as one record of settings."""

import dataclasses
import math
import numbers

from convzoo.data.errors import DataError

_STRONGEST = 30  # magnitude of RandAugment; the published scale ends at 10, its authors searched up to 28


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The augmentations of a training, in the order in which they are applied.

    Attributes:
        crop_area: (lowest, highest) part of the picture's area that an Inception crop covers, or None: no such crop.
        crop_aspect: (lowest, highest) width / height of that crop.
        crop_padding: int, pixels of black that a picture gets on each side before a crop of its own size is cut at
            random, as is usual for CIFAR; 0 for none. In place of the Inception crop.
        flip: bool, mirror half of the pictures left to right.
        jitter: (brightness, contrast, saturation), how far each factor may be from 1, in an order drawn for each
            picture (ColorJitter, as in the recipe of ShuffleNetV2).
        auto_augment: bool, AutoAugment (arXiv 1805.09501) with the EfficientNet code's policy v0 of ImageNet.
        rand_augment: (layers, magnitude) of RandAugment (arXiv 1909.13719), or None.
        erasing: float, the probability of random erasing (arXiv 1708.04896).
        mixup: float, alpha of mixup's Beta distribution (arXiv 1710.09412); 0 for none.
        cutmix: float, alpha of CutMix's (arXiv 1905.04899); 0 for none. With both, each picture gets one of the two.
        repeats: int, how often each picture comes, one after the other, each time augmented anew (repeated
            augmentation, arXiv 1901.09335). An epoch counts examples, so it then holds a part of the pictures.
    """

    crop_area: tuple[float, float] | None = (0.08, 1.0)
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int = 0
    flip: bool = True
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    auto_augment: bool = False
    rand_augment: tuple[int, float] | None = None
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1

    @property
    def mixes(self):
        """bool, whether pictures and labels of a batch are mixed."""
        return bool(self.mixup or self.cutmix)

    @property
    def works_on_bytes(self):
        """bool, whether pictures are rounded to whole grey levels once they have their size.

        The published policies are defined on bytes, which besides are a quarter of the memory that floats are.
        """
        return bool(any(self.jitter) or self.auto_augment or self.rand_augment or self.erasing or self.mixes)

    def check(self, has_maps):
        """Raise DataError for settings that cannot work, alone, together or for a source with maps of labels."""
        if self.crop_area is not None:
            _check_range("crop_area", self.crop_area, 1.0)
            _check_range("crop_aspect", self.crop_aspect, None)
        _check_number("crop_padding", self.crop_padding, 0, None, whole=True)
        if self.crop_padding and self.crop_area is not None:
            raise DataError(
                f"crop_padding {self.crop_padding} and crop_area {tuple(self.crop_area)} are two ways to crop; set "
                "crop_area to None or crop_padding to 0"
            )
        if not _is_sequence(self.jitter, 3):
            raise DataError(f"jitter {self.jitter!r} is not (brightness, contrast, saturation); give three numbers")
        for strength in self.jitter:
            _check_number("jitter", strength, 0, None)
        if self.rand_augment is not None:
            if not _is_sequence(self.rand_augment, 2):
                raise DataError(
                    f"rand_augment {self.rand_augment!r} is not (layers, magnitude); give for example (2, 10)"
                )
            _check_number("rand_augment's layers", self.rand_augment[0], 1, None, whole=True)
            _check_number("rand_augment's magnitude", self.rand_augment[1], 0, _STRONGEST)
        if self.auto_augment and self.rand_augment is not None:
            raise DataError(f"auto_augment and rand_augment {tuple(self.rand_augment)} are two policies; choose one")
        _check_number("erasing", self.erasing, 0, 1)
        _check_number("mixup", self.mixup, 0, None)
        _check_number("cutmix", self.cutmix, 0, None)
        _check_number("repeats", self.repeats, 1, None, whole=True)
        if has_maps:
            refused = ("crop_padding", "auto_augment", "rand_augment", "erasing", "mixup", "cutmix")
            for name in refused:
                if getattr(self, name):
                    raise DataError(
                        f"{name} {getattr(self, name)!r} is for pictures with one label and here every pixel has one; "
                        "leave it out"
                    )


def _is_sequence(values, length):
    return isinstance(values, tuple | list) and len(values) == length


def _check_number(name, value, lowest, highest, whole=False):
    kind, called = (numbers.Integral, "a whole number") if whole else (numbers.Real, "a number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise DataError(f"{name} {value!r} is not {called}; give one")
    if value < lowest or (highest is not None and value > highest) or not math.isfinite(value):
        bounds = f"at least {lowest}" if highest is None else f"between {lowest} and {highest}"
        raise DataError(f"{name} {value} is out of range; give {bounds}")


def _check_range(name, values, highest):
    """Raise DataError unless values are (low, high) with 0 < low <= high <= highest (None: no limit)."""
    low, high = values if _is_sequence(values, 2) else (0, 0)
    for value in (low, high):
        _check_number(name, value, 0, None)
    if not 0 < low <= high or (highest is not None and high > highest):
        limit = "" if highest is None else f" <= {highest:g}"
        told = tuple(values) if isinstance(values, tuple | list) else values
        raise DataError(f"{name} {told!r} is not (low, high) with 0 < low <= high{limit}; correct it")
