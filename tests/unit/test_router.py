"""Which server a rollout is sent to, and what the processes of a run keep of it."""

import inspect
import pickle

import pytest
from codetiming import Timer
from hydra import compose, initialize_config_module
from ray.actor import ActorHandle
from verl.utils.profiler import simple_timer
from verl.workers.rollout.router import _load_router_yaml, _resolve_router_class

import dsdr_verl.plugin  # noqa: F401 - as in every process that has verl
import dsdr_verl.trainer.router as router_module
from dsdr_verl.trainer.router import Router


class Handle:
    """An actor's: hashable, and made of something."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)

    @classmethod
    def _deserialization_helper(cls, name):
        return cls(name)

    def __reduce__(self):
        return self._deserialization_helper, (self.name,)


SERVERS = {"a:1": Handle("first"), "b:2": Handle("second")}


@pytest.fixture(autouse=True)
def handles(monkeypatch):
    monkeypatch.setattr(router_module, "ActorHandle", Handle)


def arrived(answer):
    return pickle.loads(pickle.dumps(answer))


def test_the_least_loaded_server_and_for_each_the_handle_that_belongs_to_it():
    router = Router(SERVERS, {})
    answers = [arrived(router.acquire_server(f"request {number}")) for number in range(4)]
    assert sorted(address for address, _ in answers) == ["a:1", "a:1", "b:2", "b:2"]
    assert all(handle == SERVERS[address] for address, handle in answers)
    router.release_server("a:1")
    assert router.acquire_server("request 5")[0] == "a:1"


def test_a_conversation_stays_with_its_server():
    router = Router(SERVERS, {})
    assert len({router.acquire_server("the same")[0] for _ in range(5)}) == 1


def test_a_process_has_one_handle_of_a_server_for_all_its_requests():
    """Each one that Ray sends otherwise is noted by the sender for good."""
    router = Router({"a:1": SERVERS["a:1"]}, {})
    (_, first), (_, second) = (arrived(router.acquire_server(name)) for name in "xy")
    assert first is second and first is not SERVERS["a:1"]


def test_a_handle_of_ray_is_made_of_what_its_maker_takes():
    maker = inspect.signature(ActorHandle._deserialization_helper)
    assert list(maker.parameters) == ["state", "weak_ref", "outer_object_ref"]
    assert "_deserialization_helper, (serialized, weak_ref, None)" in inspect.getsource(ActorHandle.__reduce__)


def test_a_server_that_comes_later_is_found_too():
    router = Router({}, {})
    with pytest.raises(RuntimeError, match="No available servers"):
        router.acquire_server("early")
    router.add_servers(SERVERS)
    address, handle = arrived(router.acquire_server("late"))
    assert handle == SERVERS[address]


@pytest.mark.parametrize("deterministic", [False, True])
def test_it_is_what_verl_takes_by_the_config(deterministic):
    overrides = ["+algorithm=dsdr", f"actor_rollout_ref.rollout.full_determinism={deterministic}"]
    with initialize_config_module("dsdr_verl.conf", version_base=None):
        path = compose("dsdr_trainer", overrides).actor_rollout_ref.rollout.router_config_path
    if deterministic:
        assert path is None  # by a hash of the request, which verl does not ask of another class
    else:
        assert _resolve_router_class(_load_router_yaml(path)["router_class"]) is Router


def test_timers_tell_the_time_and_keep_nothing():
    seconds = {}
    for _ in range(3):
        with simple_timer("generate_sequences", seconds):
            pass
    assert 0 < seconds["generate_sequences"] < 1
    assert not Timer.timers and not Timer.timers._timings
