"""Hydra config tree, on top of verl's own."""
