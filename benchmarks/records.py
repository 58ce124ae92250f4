"""JSON-lines files of measurements, which a benchmark continues after an interruption.

Each line is an object with "kind", "name" (unique for a kind) and the measured values. To measure something again,
delete its line.
"""

import json

import tensorflow as tf

from convzoo.cli import program
from convzoo.errors import ConfigError, first_line
from convzoo.files import read_text


def read(path: str, kind: str, **expected) -> dict[str, dict]:
    """Returns the records of `kind` by name; none if the file does not exist.

    Args:
        path: The file.
        kind: "network", "layer" or "kernels".
        **expected: Values that every record of the file must have where it has the field, for example `chip="v5e"`.

    Raises:
        ConfigError: The file cannot be read, is no file of records, or has other values than `expected`.
    """
    if not tf.io.gfile.exists(path):
        return {}
    try:
        lines = [json.loads(line) for line in read_text(path).splitlines()]
        records = {record["name"]: record for record in lines if record["kind"] == kind}
    except (tf.errors.OpError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of records ({first_line(error)}); choose another one") from error
    for record in lines:
        for field, value in expected.items():
            if record.get(field, value) != value:
                raise ConfigError(f"{path} has records for {field}={record[field]}, not {value}; choose another file")
    return records


def append(path: str, kind: str, name: str, values: dict) -> None:
    """Adds a record to the file, which is created if it does not exist."""
    text = read_text(path) if tf.io.gfile.exists(path) else ""
    program.write_output(path, f"{text}{json.dumps({'kind': kind, 'name': name, **values})}\n", "records")
