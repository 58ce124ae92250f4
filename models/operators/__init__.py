"""The operators of the four papers: each replaces ordinary convolutions of a network by its own layers.

`create_model` builds a network with an operator, `convert` puts one into a trained network. An operator is a frozen
dataclass of its settings, one file a paper.
"""

from convzoo.models.operators.changes import change, from_fields, operators_with, to_fields
from convzoo.models.operators.cond_conv import CondConv
from convzoo.models.operators.dr_conv import DRConv
from convzoo.models.operators.lean import Lean
from convzoo.models.operators.operator import Operator, Static
from convzoo.models.operators.part import Part, PartLayers
from convzoo.models.operators.uneven_groups import UnevenGroups

__all__ = [
    "CondConv",
    "DRConv",
    "Lean",
    "Operator",
    "Part",
    "PartLayers",
    "Static",
    "UnevenGroups",
    "change",
    "from_fields",
    "operators_with",
    "to_fields",
]
