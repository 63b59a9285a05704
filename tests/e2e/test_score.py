"""`python -m dsdr_verl.score --ray`: the same numbers from the service's actors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ray._common.utils import get_default_ray_temp_dir

from dsdr_verl.rollout_files import read_rollouts

pytestmark = pytest.mark.e2e

ROWS = [
    {"prompt": f"p{p}", "ground_truth": f"x+{p}", "response": rf"Try {i} has $y_{i}={p}$; so \boxed{{{i % 3}+x}}"}
    for p in range(3)
    for i in range(6)
]


def test_actors_give_the_same(tmp_path):
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    tables = []
    for arguments in (["--ray", "scoring.actors=2"], []):
        out = tmp_path / f"{len(arguments)}.jsonl"
        command = [sys.executable, "-m", "dsdr_verl.score", path, "--out", out, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        _, error = process.communicate(timeout=900)
        assert process.returncode == 0, error
        assert not list(Path(get_default_ray_temp_dir()).glob(f"session_*_{process.pid}")), "of its Ray"
        tables.append(read_rollouts(out))
    ray, local = tables
    assert ray["verdict"].tolist() == local["verdict"].tolist() and set(ray["verdict"]) == {"correct", "incorrect"}
    for name in ("semantic", "formula", "diversity", "shaped_reward", "weight"):
        np.testing.assert_allclose(ray[name].to_numpy(float), local[name].to_numpy(float), atol=1e-6, err_msg=name)
