"""Normalisations of pictures that several families share."""

import dataclasses

from convzoo.models.info import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_fraction=0.875)
IMAGENET_BILINEAR = dataclasses.replace(IMAGENET, interpolation="bilinear")
CIFAR10 = Preprocessing((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), crop_fraction=1.0)
