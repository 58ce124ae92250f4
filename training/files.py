"""Text files that a reader sees either whole or not at all."""

import os

import tensorflow as tf


def read_text(path: str) -> str:
    """Returns the text of the file at `path`, local or gs://."""
    with tf.io.gfile.GFile(path) as file:
        return file.read()


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`, local or gs://, and creates its folder.

    The text goes to a temporary file first and replaces `path` by a rename, so that a concurrent reader gets the old
    text or the new one, never a part.
    """
    folder = os.path.dirname(path)
    if folder:
        tf.io.gfile.makedirs(folder)
    unfinished = f"{path}.unfinished"
    with tf.io.gfile.GFile(unfinished, "w") as file:
        file.write(text)
    tf.io.gfile.rename(unfinished, path, overwrite=True)
