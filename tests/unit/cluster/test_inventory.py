import sys

import pytest
import yaml

from dsdr_verl.cluster.inventory import InventoryError, load

SSH = {"backend": "ssh", "hosts": ["10.0.0.1", "10.0.0.2"]}


def written(tmp_path, content) -> str:
    path = tmp_path / "cluster.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_what_is_left_out_has_a_default(tmp_path):
    inventory = load(written(tmp_path, SSH))
    assert (inventory.size, inventory.gpus_per_node, inventory.dashboard_host) == (2, 8, "127.0.0.1")
    assert load(written(tmp_path, {"nodes": 3, "backend": "slurm"}), "local").backend == "local"


@pytest.mark.parametrize("backend", ["local", "ssh", "slurm", "kuberay", "skypilot", "docker"])
def test_every_backend_has_an_example(backend):
    assert load(f"recipe/cluster/{backend}.yaml").backend == backend


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hosts": []}, "hosts is empty"),
        ({"hosts": ["a", "b", "a"]}, "hosts has a more than once"),
        ({"hosts": ["a; rm -rf ~", "b"]}, "hosts.0 is 'a; rm -rf ~'"),
        ({"hosts": ["me@a", "b"]}, "hosts has me@a; give IPv4 addresses or names alone"),
        ({"hosts": ["fd00::1", "10.0.0.1:22"]}, "hosts has fd00::1, 10.0.0.1:22"),
        ({"slurm": {"time": 86400}}, "slurm.time is 86400: input should be a valid string; put it in quotes"),
        ({"nodes": 3}, "nodes is 3, and there are 2 hosts"),
        ({"backend": "slurm"}, "hosts is of no use to backend slurm"),
        ({"backend": "slurm", "hosts": []}, "nodes is missing"),
        ({"backend": "sshh"}, "backend is 'sshh'"),
        ({"gpus_per_node": 0}, "gpus_per_node is 0: input should be greater than or equal to 1"),
        ({"gpu_per_node": 4}, "gpu_per_node is not known; did you mean gpus_per_node?"),
        ({"ssh": {"usr": "me"}}, "ssh.usr is not known; did you mean user?"),
        ({"ports": {"gcs": 70000}}, "ports.gcs is 70000"),
        ({"workdir": "~/it's here"}, 'workdir is "~/it\'s here"'),
        ({"env": ["WANDB_API_KEY=abc"]}, "env takes names of variables, never values"),
        ({"name": "My Cluster"}, "name is 'My Cluster'"),
    ],
)
def test_problems_name_their_key(tmp_path, change, said):
    with pytest.raises(InventoryError) as error:
        load(written(tmp_path, SSH | change))
    assert said in str(error.value)
    assert "abc" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "- a list",
        "a: [",
        "",
        "backend: local\nbackend: ssh",
        "ssh: {key: a, key: b}",
        "name: !!python/object/apply:os.getcwd []",
    ],
)
def test_what_is_no_inventory(tmp_path, content):
    with pytest.raises(InventoryError, match=r"cluster\.yaml"):
        load(written(tmp_path, content))
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(InventoryError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")
    with pytest.raises(InventoryError, match="INVENTORY="):
        load(tmp_path / "absent.yaml")


def test_a_job_finds_the_interpreter(tmp_path):
    assert load(written(tmp_path, SSH)).python == "cd ~/dsdr-verl && exec .venv/bin/python"
    assert load(written(tmp_path, {"nodes": 1, "backend": "kuberay"})).python == "cd /workspace && exec python"
    assert load(written(tmp_path, {"nodes": 1, "backend": "local"})).python.endswith(sys.executable)


def test_secrets_come_from_the_environment_only(tmp_path, monkeypatch):
    inventory = load(written(tmp_path, SSH | {"env": ["DSDR_TEST_SECRET"]}))
    with pytest.raises(InventoryError, match="DSDR_TEST_SECRET, not set"):
        inventory.secrets()
    monkeypatch.setenv("DSDR_TEST_SECRET", "hush")
    assert inventory.secrets() == {"DSDR_TEST_SECRET": "hush"}
    assert "hush" not in repr(inventory)
