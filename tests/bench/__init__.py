"""Measurements: `make bench`. Both sides of every ratio come from one call on one machine."""
