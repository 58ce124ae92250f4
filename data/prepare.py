"""TFDS builders whose files are there, or one line that says why not."""

import os
import socket
import urllib.parse
import urllib.request

import tensorflow as tf
import tensorflow_datasets as tfds

from convzoo.data.errors import DataError, one_line

_HOSTS_ASKED = 3
_SECONDS_PER_HOST = 5


def prepared_builder(spec, make_builder):
    """A TFDS builder whose files are there; they are downloaded and prepared where they are missing.

    Args:
        spec: str, the source string for messages.
        make_builder: function without arguments that makes the builder.

    Returns:
        tfds.core.DatasetBuilder, prepared.

    Raises:
        DataError: TFDS does not know the name, or downloading or writing fails.
    """
    try:
        builder = make_builder()
    except Exception as error:  # a name that TFDS refuses raises one of a dozen kinds
        raise DataError(
            f"source {spec!r}: TFDS has no such data set ({one_line(error)}); its names stand in "
            "https://www.tensorflow.org/datasets/catalog"
        ) from error
    if builder.is_prepared():
        return builder
    try:
        _check_network(builder)
        # The public bucket would only be asked for what its own page now offers, and without a network it answers late.
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # network, disk, checksums, missing manual files: every data set fails its own way
        # Another process may have prepared it meanwhile: TFDS lets the second one fail when it moves its folder there.
        builder = make_builder()
        if not builder.is_prepared():
            raise DataError(
                f"source {spec!r} is not prepared under {builder.data_dir_root} and preparing it failed "
                f"({one_line(error)}); prepare it once where that works, then set data_dir or TFDS_DATA_DIR"
            ) from error
    return builder


def _check_network(builder):
    """Raise ConnectionError if a data set must be downloaded and none of its hosts answers.

    TFDS itself gives up after ten tries of each file, more than three minutes later. Not asked: proxies, and data sets
    that want archives put there by hand, for which TFDS has its own line.
    """
    hosts = {}
    for url in builder.url_infos or {}:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            hosts[parts.hostname] = parts.port or (443 if parts.scheme == "https" else 80)
    if not hosts or builder.MANUAL_DOWNLOAD_INSTRUCTIONS or urllib.request.getproxies() or _has_downloads(builder):
        return
    asked = list(hosts.items())[:_HOSTS_ASKED]
    for address in asked:
        try:
            socket.create_connection(address, timeout=_SECONDS_PER_HOST).close()
            return
        except OSError:
            continue
    raise ConnectionError(f"no answer from {', '.join(host for host, _ in asked)}")


def _has_downloads(builder):
    """Whether archives lie where TFDS looks before it asks the network: then it may not need to ask."""
    downloads = os.path.join(builder.data_dir_root, "downloads")
    for folder in (os.path.join(downloads, builder.name), os.path.join(downloads, "manual"), downloads):
        if tf.io.gfile.isdir(folder):
            for name in tf.io.gfile.listdir(folder):
                if ".tmp." not in name and not tf.io.gfile.isdir(os.path.join(folder, name)):
                    return True
    return False
