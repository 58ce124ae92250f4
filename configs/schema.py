"""Configs of experiments: ConfigDicts with the fields of `convzoo.configs.fields`, checked and described."""

import functools
from typing import Any, NamedTuple

import pydantic
from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from convzoo.configs.fields import Experiment, Section
from convzoo.configs.rules import check_rules
from convzoo.errors import ConfigError


def validate(config: ConfigDict, num_replicas: int) -> None:
    """Checks every field of an experiment and the rules between them, before anything is built or written.

    Args:
        config: The experiment.
        num_replicas: Number of devices that share each batch.

    Raises:
        ConfigError: One line that names a field, its value and what is allowed.
    """
    check_rules(_parse(config.to_dict()), num_replicas)


def from_dict(values: dict) -> ConfigDict:
    """Returns the locked config with the given values, as `config.to_dict()` or JSON has them.

    Raises:
        ConfigError: A field is unknown, missing or out of range.
    """
    return _config_dict(_parse(values).model_dump())


def default_config() -> ConfigDict:
    """Returns a locked config with the default of every field. Fields without a default are None."""
    return _config_dict({})


def default_values() -> dict[str, Any]:
    """Returns the default of every field by its name, such as "data.source"; None for required fields."""
    return {name: None if field.info.is_required() else field.info.default for name, field in _fields().items()}


def fields_that_may_change() -> tuple[str, ...]:
    """Returns the names of the fields that may change when a run is resumed, such as "data.service"."""
    return tuple(name for name, field in _fields().items() if field.info.json_schema_extra)


def fields_table() -> str:
    """Returns a Markdown table of all fields: name, type, default, range and meaning."""
    lines = ["| field | type | default | range | meaning |", "|---|---|---|---|---|"]
    for name, field in _fields().items():
        kind = f"{field.kind.__name__} or None" if field.optional else field.kind.__name__
        default = "required" if field.info.is_required() else f"`{field.info.default!r}`"
        limits = _describe(field.schema, {})
        meaning = " ".join(field.info.description.split())
        lines.append(f"| `{name}` | {kind} | {default} | {limits} | {meaning} |")
    return "\n".join(lines) + "\n"


class _FieldOfConfig(NamedTuple):
    info: Any  # pydantic's FieldInfo
    schema: dict  # JSON schema of the values other than None
    kind: type  # Python type of the values other than None
    optional: bool  # None is allowed


_KINDS = {"boolean": bool, "integer": int, "number": float, "string": str, "array": tuple, "object": dict}
_NAMES = {
    "boolean": "True or False",
    "integer": "an int",
    "number": "a finite number",
    "string": "a non-empty string",
    "object": "a dict",
}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<="}


@functools.cache
def _fields() -> dict[str, _FieldOfConfig]:
    """Returns every field by its dotted name, such as "data.source"."""
    fields = {}
    for prefix, section in ("", Experiment), *((f"{name}.", section) for name, section in _sections().items()):
        properties = section.model_json_schema()["properties"]
        for name, info in section.model_fields.items():
            if prefix or name not in _sections():
                variants = properties[name].get("anyOf", [properties[name]])
                schema = variants[0]
                fields[prefix + name] = _FieldOfConfig(info, schema, _KINDS[schema["type"]], len(variants) > 1)
    return fields


def _sections() -> dict[str, type[Section]]:
    annotations = {name: info.annotation for name, info in Experiment.model_fields.items()}
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _describe(schema: dict, names: dict[str, str] = _NAMES) -> str:
    """Returns what a JSON schema allows, such as "a number > 0". With `names` {} it omits the types."""
    if "enum" in schema:
        return ("one of " if names else "") + ", ".join(repr(choice) for choice in schema["enum"])
    if "prefixItems" in schema:
        return f"({', '.join(_describe(item, names) for item in schema['prefixItems'])})"
    if "items" in schema:
        return f"{'a non-empty tuple, ' if names else ''}each {_describe(schema['items'], names)}"
    limits = " and ".join(f"{symbol} {schema[key]}" for key, symbol in _LIMITS.items() if key in schema)
    return f"{names.get(schema['type'], '')} {limits}".strip()


def _parse(values: dict) -> Experiment:
    """Returns the values as an Experiment. Raises ConfigError for the first invalid field."""
    absent = object()
    given = {name: _lookup(values, name, absent) for name in _fields()}
    missing = [f"config.{name}" for name, value in given.items() if value is absent]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ConfigError(f"missing fields: {', '.join(missing[:5])}{more}; start the config from configs/base.py")
    for name, field in _fields().items():
        if given[name] is None and field.info.is_required():
            raise ConfigError(f"config.{name} is not set; set it in the config file or with --config.{name}=...")
    try:
        return Experiment.model_validate(values)
    except pydantic.ValidationError as error:
        raise ConfigError(_message(error.errors()[0], given)) from None


def _lookup(values: Any, name: str, default: Any) -> Any:
    """Returns the value of a dotted name in nested dicts, or `default`."""
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return default
        values = values[part]
    return values


def _message(error: Any, values: dict[str, Any]) -> str:
    """Returns one line from an error of pydantic: the field, its value, what is wrong and what is allowed."""
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"config.{path}={error['input']!r} is not a field of configs/fields.py; remove it or correct its name"
    name = next(name for name in _fields() if f"{path}.".startswith(f"{name}."))  # the path may go on into a tuple
    field = _fields()[name]
    problem = str(error["ctx"]["error"]) if error["type"] == "value_error" else "is not valid"
    return (
        f"config.{name}={values[name]!r} {problem}; use {'None or ' if field.optional else ''}{_describe(field.schema)}"
    )


class _OptionalParser(flags.ArgumentParser):
    """Parser of a command-line value that may be `None`."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser

    def parse(self, argument):
        return None if argument in (None, "None") else self._parser.parse(argument)


# config_flags chooses a field's parser by the field's type, so optional fields have types of their own.
_OPTIONAL_TYPES = {
    kind: config_flags.register_flag_parser_for_type(
        type(f"Optional[{kind.__name__}]", (), {}), _OptionalParser(parser)
    )
    for kind, parser in (
        (bool, flags.BooleanParser()),
        (int, flags.IntegerParser()),
        (float, flags.FloatParser()),
        (str, flags.ArgumentParser()),
    )
}


class _OptionalField(FieldReference):
    """A typed field of a ConfigDict that accepts None, also from the command line."""

    def get_type(self):
        kind = super().get_type()
        return _OPTIONAL_TYPES.get(kind, kind)

    def set(self, value, type_safe=True):
        # config_flags parses --config.data.crop_area=None as (None,).
        super().set(None if value == (None,) else value, type_safe)


def _config_dict(values: dict) -> ConfigDict:
    """Returns a locked config with the given values and with the defaults of all other fields."""
    config = ConfigDict({name: ConfigDict() for name in _sections()})
    for name, field in _fields().items():
        value = _lookup(values, name, None if field.info.is_required() else field.info.default)
        if field.kind is dict:
            value = ConfigDict(value)
        elif field.optional or field.info.is_required():
            value = _OptionalField(value, field.kind)
        section, _, leaf = name.rpartition(".")
        (config[section] if section else config)[leaf] = value
    return config.lock()
