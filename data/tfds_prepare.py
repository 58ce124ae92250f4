"""Prepares datasets of TensorFlow Datasets, and reports failures in one line."""

import os
import socket
import urllib.parse
import urllib.request

import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.errors import DataError, first_line

_MAX_PROBED_HOSTS = 3
_TIMEOUT_SECONDS = 5


def make_builder(spec, make):
    """Returns `make()`, a tfds.core.DatasetBuilder. Raises DataError if TFDS does not know the dataset of `spec`."""
    try:
        return make()
    except Exception as error:  # TFDS raises a dozen types for invalid names
        raise DataError(
            f"source {spec!r}: TFDS has no such dataset ({first_line(error)}); see "
            "https://www.tensorflow.org/datasets/catalog"
        ) from error


def prepared_builder(spec, make):
    """Returns a TFDS builder after it has downloaded and prepared its dataset, where that is not done yet.

    Args:
        spec: The source string, for messages.
        make: Function without arguments that returns a tfds.core.DatasetBuilder.

    Raises:
        DataError: TFDS does not know the name, or downloading or writing fails.
    """
    builder = make_builder(spec, make)
    if builder.is_prepared():
        return builder
    try:
        _check_network(builder)
        # TFDS would also look in its public bucket, which takes long to fail without a network.
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # network, disk, checksums, missing manual files: each has its own type
        # Another process may have prepared it meanwhile, and then TFDS fails to move its folder there.
        builder = make()
        if not builder.is_prepared():
            raise DataError(
                f"source {spec!r} is not prepared in {builder.data_dir_root}, and preparing it failed "
                f"({first_line(error)}); prepare it on a machine where that works and set data_dir or TFDS_DATA_DIR"
            ) from error
    return builder


def _check_network(builder):
    """Raises ConnectionError if a dataset must be downloaded and none of its hosts answers.

    TFDS itself gives up only after ten attempts per file, more than three minutes. The check is skipped behind proxies
    and for datasets with manual downloads, for which TFDS has its own message.
    """
    hosts = {}
    for url in builder.url_infos or {}:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            hosts[parts.hostname] = parts.port or (443 if parts.scheme == "https" else 80)
    if not hosts or builder.MANUAL_DOWNLOAD_INSTRUCTIONS or urllib.request.getproxies() or _has_downloads(builder):
        return
    addresses = list(hosts.items())[:_MAX_PROBED_HOSTS]
    for address in addresses:
        try:
            socket.create_connection(address, timeout=_TIMEOUT_SECONDS).close()
            return
        except OSError:
            continue
    raise ConnectionError(f"no answer from {', '.join(host for host, _ in addresses)}")


def _has_downloads(builder):
    """True if the download folders of TFDS contain files, so that it may not need the network."""
    downloads = os.path.join(builder.data_dir_root, "downloads")
    for folder in (os.path.join(downloads, builder.name), os.path.join(downloads, "manual"), downloads):
        for name in tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else ():
            if ".tmp." not in name and not tf.io.gfile.isdir(os.path.join(folder, name)):
                return True
    return False
