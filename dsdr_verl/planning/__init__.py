"""What a config asks of a cluster, worked out before there is one: batches, memory, bytes to move, time.

`shapes` counts a model's parameters, `batches` a step's rollouts; both are exact. `memory`, `traffic` and `stages` are
estimates, each by the formula in its docstring, and none of them has been compared with a GPU here. `problems` joins
them with the checks of this package and of verl.
"""
