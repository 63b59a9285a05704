"""What a scheduler sends is Ctrl-C."""

import signal


def terminated_is_interrupted():
    """SIGTERM raises KeyboardInterrupt in the main thread from here on; returns the handler before.

    To be called again after `ray.init`, which sets a handler of its own.
    """
    return signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
