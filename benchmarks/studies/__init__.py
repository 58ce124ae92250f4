"""Studies of the four ideas on real data, one file each. Results: docs/studies.md."""
