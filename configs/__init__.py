"""Experiments, one per file. `schema.py` defines the fields, `base.py` has the defaults."""
