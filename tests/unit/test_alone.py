"""Two processes, one folder."""

import subprocess
import sys

import pytest

from dsdr_verl.alone import Taken, alone_in


def test_one_process_a_folder(tmp_path):
    holding = "\n".join(
        (
            "from pathlib import Path",
            "from dsdr_verl.alone import alone_in",
            f"with alone_in(Path({str(tmp_path)!r}), ''):",
            "    print('held', flush=True)",
            "    input()",
        )
    )
    other = subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Taken, match="it is taken"), alone_in(tmp_path, "it is taken"):
            pass
    finally:
        other.communicate("\n")
    with alone_in(tmp_path, ""):
        pass
