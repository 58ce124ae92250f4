"""One experiment a file; `base.py` holds every field there is, with its meaning."""
