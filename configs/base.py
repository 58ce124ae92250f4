"""The base experiment: every field with its default. An experiment starts from here and sets what differs.

configs/fields.py has the meaning of every field. The config is locked: a field that does not exist is an error, in a
config file and on the command line.
"""

from ml_collections import ConfigDict

from convzoo.configs.schema import default_config


def get_config() -> ConfigDict:
    """Returns the defaults. Network, data, batch size, epochs and learning rate are unset."""
    return default_config()
