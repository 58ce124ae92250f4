"""Experiments, one per file. `fields.py` has the fields, `rules.py` the rules between them, `base.py` the defaults."""

NOT_EXPERIMENTS = ("__init__", "fields", "rules", "schema", "variants")
