"""Files that are whole or not there."""

import os

import tensorflow as tf


class NotWrittenError(OSError):
    """Something cannot be written. `what` names it, and the text says why."""

    def __init__(self, what: str, why: str):
        super().__init__(why)
        self.what = what


def read_text(path: str) -> str:
    """The text of `path`, local or gs://."""
    with tf.io.gfile.GFile(path) as file:
        return file.read()


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`, local or gs://; whoever reads meanwhile finds the old text or the new, never a part."""
    folder = os.path.dirname(path)
    if folder:
        tf.io.gfile.makedirs(folder)
    unfinished = f"{path}.unfinished"
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(text)
    tf.io.gfile.rename(unfinished, path, overwrite=True)
