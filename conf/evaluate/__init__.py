"""The config tree of `python -m dsdr_verl.evaluate`. Apart from training's, whose group `task` is a key here."""
