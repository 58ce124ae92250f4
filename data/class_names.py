"""Files with class names."""

import tensorflow as tf

from convzoo.errors import DataError, first_line


def read_class_names(spec, path):
    """Returns the class names in a text file, one per line.

    Args:
        spec: The source string, for messages.
        path: The file.

    Raises:
        DataError: The file cannot be read, or a line is empty.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            # str.splitlines would also split at characters that a name may contain, such as U+2028.
            names = [line.strip(" \t\r") for line in file.read().decode("utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
        raise DataError(
            f"source {spec!r}: cannot read {path!r} as UTF-8 ({first_line(error)}); write one class name per line"
        ) from error
    if not all(names):
        raise DataError(f"source {spec!r}: {path!r} has an empty line; write one class name per line")
    return names
