"""Before any test imports verl, which settles its platform once a process."""

import os

os.environ.setdefault("VERL_PLATFORM", "cpu")
