"""What `sbatch` is given: Ray on every node of a job, one task a node, until the job is cancelled.

Not by `ray symmetric-run`: it gives workers half a minute, ends with a `ray stop` of all that the user runs there, and
goes on when the head's Ray has died.
"""

from __future__ import annotations

from dsdr_verl.cluster.backends import NODE_ENVIRONMENT
from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.ranked import ray_by_rank

TEMPLATE = """\
#!/bin/bash
{directives}
set -eu
cd {workdir}
export PATH=$PWD/.venv/bin:$PATH {environment}
# other users reach these nodes too: only this user's token, in the home that the nodes share, opens Ray
export RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null
# the first node, which runs this script, by the address at which Slurm reaches it
address=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
HEAD=$(getent ahostsv4 "$address" | awk '{{ print $1; exit }}')
export HEAD
exec srun --export=ALL --cpu-bind=none --kill-on-bad-exit=1 bash -c '
{ray}'
"""


def batch_script(inventory: Inventory, log: str) -> str:
    """`log` may hold %j, the job's number."""
    asked = inventory.slurm
    options = {
        "job-name": inventory.name, "nodes": inventory.size, "ntasks-per-node": 1, "time": asked.time,
        "partition": asked.partition, "account": asked.account,
        "gres": f"gpu:{inventory.gpus_per_node}" if inventory.hardware == "gpu" else None,
        "output": f'"{log}"',
        "export": "NONE",  # variables of whoever starts the cluster stay here; jobs get theirs by `env`
    }  # fmt: skip
    words = [f"--{key}={value}" for key, value in options.items() if value is not None]
    words += (["--exclusive", "--mem=0"] if asked.exclusive else []) + asked.extra
    return TEMPLATE.format(
        directives="\n".join(f"#SBATCH {word}" for word in words),
        workdir=inventory.workdir,
        environment=" ".join(f"{name}={value}" for name, value in NODE_ENVIRONMENT.items()),
        ray=ray_by_rank(inventory, "SLURM_PROCID"),
    )
