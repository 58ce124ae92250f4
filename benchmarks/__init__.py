"""Measurements: layers, networks, input, resuming, and what the TPU compiler reports."""
