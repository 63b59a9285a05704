"""`make chaos`: faults in every kind of process at every stage of a step, and what comes of them."""
