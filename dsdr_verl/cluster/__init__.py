"""Bringing nodes up, and finding out whether they are what a run needs.

| file | holds |
|---|---|
| `inventory` | the one file that describes a cluster, validated |
| `backends/` | how nodes come up: one module each, with the functions named in its `__init__` |
| `__main__` | `python -m dsdr_verl.cluster up` and its like, which `make cluster-up` and its like call |
| `tunnel`, `token` | how the head is reached from here, and what opens it |
| `ranked` | head or worker by rank, for schedulers that run one script on every node; waiting for the head |
| `batch_script`, `manifests` | what sbatch and the KubeRay operator are given |
| `fingerprint` | what code, packages and plug-in a node has |
| `muster` | before training: are all nodes there, and are they alike? |
"""
