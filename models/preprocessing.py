"""Normalisations of pictures that several families share."""

from convzoo.models.info import Preprocessing

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
IMAGENET = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, crop_fraction=0.875)
