"""Operators as dicts of their fields, for configs and files, and changes of some of the fields."""

import dataclasses
import difflib

from convzoo.errors import ModelError
from convzoo.models.operators.cond_conv import CondConv
from convzoo.models.operators.dr_conv import DRConv
from convzoo.models.operators.lean import Lean
from convzoo.models.operators.operator import Operator, Static
from convzoo.models.operators.uneven_groups import UnevenGroups

_CLASSES = {operator.__name__: operator for operator in (Static, CondConv, DRConv, Lean, UnevenGroups)}


def _settings(operator) -> list[str]:
    return [field.name for field in dataclasses.fields(operator) if field.init]


def to_fields(operator: Operator) -> dict:
    """Returns "name" and the settings of an operator, the inverse of `from_fields`.

    Example:
        >>> to_fields(Static())
        {'name': 'Static'}
        >>> to_fields(Lean("9-point", group_size=8))["group_size"]
        8
    """
    return {"name": type(operator).__name__, **{key: getattr(operator, key) for key in _settings(operator)}}


def from_fields(name: str, **fields) -> Operator:
    """Returns the operator of the class `name`.

    Raises:
        ModelError: There is no such operator or setting (the message names known ones), or a value is invalid.

    Example:
        >>> from_fields("DRConv", regions=4).regions
        4
    """
    if not isinstance(name, str) or name not in _CLASSES:
        raise ModelError(f"unknown operator {name!r}; choose one of {', '.join(_CLASSES)}")
    known = _settings(_CLASSES[name])
    for key in fields:
        if key not in known:
            key = str(key)
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise ModelError(f"{name} has no setting {key!r}; it has {', '.join(near or known) or 'none'}")
    return _CLASSES[name](**fields)


def operators_with(setting: str) -> list[str]:
    """Returns the names of the operators that have a setting.

    Example:
        >>> operators_with("regions")
        ['DRConv']
    """
    return [name for name, operator in _CLASSES.items() if setting in _settings(operator)]


def change(operator: Operator, changes: Operator | dict | None) -> Operator:
    """Returns an operator with some settings changed.

    Args:
        operator: The operator.
        changes: Settings by name. With "name" the result is an operator of that class, and keeps the settings of
            `operator` only if that is of the same class. An `Operator` replaces `operator`; None changes nothing.

    Raises:
        ModelError: As `from_fields`, or `changes` is of another type.

    Example:
        >>> change(Lean("9-point", group_size=8), {"group_size": 4})
        Lean(stencil='9-point', group_size=4, adjoint_step=False, first_block=0)
    """
    if changes is None:
        return operator
    if isinstance(changes, Operator):
        return changes
    if not isinstance(changes, dict):
        raise ModelError(f"operator must be an Operator such as convzoo.models.CondConv(), or a dict, not {changes!r}")
    fields = to_fields(operator)
    if changes.get("name", fields["name"]) != fields["name"]:
        fields = {}
    settings = [key for key in changes if key != "name"]
    if settings and changes.get("name", fields.get("name")) == "Static":
        owner = next(iter(operators_with(settings[0])), "CondConv")
        raise ModelError(
            f"Static, which replaces nothing, has no setting {settings[0]!r}; add the name of the operator, such as "
            f"'name': {owner!r}"
        )
    return from_fields(**{str(key): value for key, value in {**fields, **changes}.items()})
