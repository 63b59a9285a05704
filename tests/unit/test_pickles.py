"""Checkpoints that would run code, and those that real runs write."""

import io
import os
import pickle
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torchdata.stateful_dataloader import StatefulDataLoader

from dsdr_verl.pickles import Unfit, look


class Call:
    """Pickles to a call."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def rewritten(path: Path, data: bytes) -> None:
    """A file of torch.save with another pickle in it."""
    with zipfile.ZipFile(path) as old:
        content = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, kept in content.items():
            new.writestr(name, data if name.endswith("data.pkl") else kept)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "global_step_2"
    (folder / "actor").mkdir(parents=True)
    return folder


@pytest.fixture
def mark(tmp_path):
    """What every attack here would make."""
    return tmp_path / "made"


def refused(folder: Path, mark: Path, *parts: str) -> None:
    with pytest.raises(Unfit) as error:
        look(folder)
    for part in parts:
        assert part in str(error.value)
    assert not mark.exists()


def test_what_verl_saves(folder):
    """An FSDP2 model and its optimiser, the extra state, and the data loader's."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).bfloat16()
        fully_shard(model, mesh=init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",)))
        optimizer = torch.optim.AdamW(model.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        model(torch.ones(1, 4).bfloat16()).sum().backward()
        optimizer.step()
        rng = {"cpu": torch.get_rng_state(), "numpy": np.random.get_state(), "random": random.getstate()}
        extra = {"lr_scheduler": scheduler.state_dict(), "rng": rng}
        loader = StatefulDataLoader(list(range(9)), batch_size=2, shuffle=True)
        next(iter(loader))
        parts = {"model": model.state_dict(), "optim": optimizer.state_dict(), "extra_state": extra}
        for name, part in parts.items():
            torch.save(part, folder / "actor" / f"{name}_world_size_1_rank_0.pt")
        torch.save(loader.state_dict(), folder / "data.pt")
        look(folder)
    finally:
        dist.destroy_process_group()
    look(folder)  # in a process that has no group, as the driver's
    restored = torch.load(folder / "actor" / "extra_state_world_size_1_rank_0.pt", weights_only=False)["rng"]
    assert np.array_equal(restored["numpy"][1], rng["numpy"][1]), "the stand-ins are gone"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_call(folder, mark, protocol):
    torch.save({"a": Call(os.system, f"touch {mark}")}, folder / "data.pt", pickle_protocol=protocol)
    refused(folder, mark, "data.pt", "posix.system" if protocol < 4 else "opcode")
    with open(folder / "data.pt", "rb") as file:  # the test's own attack is one
        torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, torch.load, io.open, pickle.loads])
def test_whatever_is_called(folder, mark, function):
    torch.save(Call(function, f"open({str(mark)!r}, 'w')"), folder / "actor" / "optim_world_size_1_rank_0.pt")
    refused(folder, mark, "actor/optim_world_size_1_rank_0.pt would call")


def test_a_name_that_is_put_together_on_the_stack(folder, mark):
    """STACK_GLOBAL with its names from the memo, in a file that says protocol 2."""
    torch.save({}, folder / "data.pt")
    names = b"X\x05\x00\x00\x00posixq\x00X\x06\x00\x00\x00systemq\x01h\x00h\x01\x93"
    command = f"touch {mark}".encode()
    rewritten(folder / "data.pt", b"\x80\x02" + names + b"X" + struct.pack("<I", len(command)) + command + b"\x85R.")
    refused(folder, mark, "data.pt has the opcode STACK_GLOBAL")
    torch.load(folder / "data.pt", weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"(S'touch {}'\nios\nsystem\n.", "opcode"),
        (b"(cos\nsystem\nS'touch {}'\no.", "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "eval"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "cannot be read"),
        (b"\x80\x02ctorch.serialization\nos.system\nX\x01\x00\x00\x00a\x85R.", "torch.serialization.os.system"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02\xff.", "opcode 255"),
        (b"\x80\x02", "EOFError"),
        (b"", "cannot be read"),
    ],
    ids=["inst", "obj", "old-name", "build-on-a-function", "dotted", "extension", "no-opcode", "cut", "empty"],
)
def test_other_opcodes(folder, mark, data, says):
    torch.save({}, folder / "data.pt")
    rewritten(folder / "data.pt", data.replace(b"{}", str(mark).encode()))
    refused(folder, mark, "data.pt", says)


def test_formats_before_the_zip(folder, mark):
    attack = Call(os.system, f"touch {mark}")
    torch.save(attack, folder / "data.pt", _use_new_zipfile_serialization=False)
    refused(folder, mark, "data.pt is not in the format of torch.save")
    content = pickle.dumps(attack)
    with tarfile.open(folder / "data.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    refused(folder, mark, "data.pt is not in the format of torch.save")
    (folder / "data.pt").write_bytes(content)
    refused(folder, mark, "data.pt is not in the format of torch.save")


def test_a_script(folder, mark):
    """torch.load would hand it to torch.jit.load."""
    torch.jit.script(torch.nn.Linear(1, 1)).save(folder / "data.pt")
    refused(folder, mark, "data.pt cannot be read as tensors and numbers")


def test_a_second_pickle_behind_the_first(folder, mark):
    """The zip's own list of what is in it counts: Python's reader and torch's must not see two files."""
    torch.save({"fit": 1}, folder / "data.pt")
    torch.save(Call(os.system, f"touch {mark}"), folder / "other.zip")
    attack = (folder / "other.zip").read_bytes()
    (folder / "data.pt").write_bytes((folder / "data.pt").read_bytes() + attack)
    refused(folder, mark, "data.pt")


@pytest.mark.parametrize(
    "content",
    [
        np.array([{}], dtype=object), np.zeros(2, dtype=[("a", object)]), np.array(["a"]), np.ma.array([1]),
        Call(np.ndarray, (1,), np.dtype("O")), np.dtype("O"),
    ],
    ids=["objects", "fields", "text", "subclass", "constructor", "dtype"],
)  # fmt: skip
def test_arrays_that_are_more_than_numbers(folder, mark, content):
    torch.save({"a": content}, folder / "data.pt")
    refused(folder, mark, "data.pt")


class Forged(np.ndarray):
    """Bytes that say that they are pointers."""

    def __reduce__(self):
        function, args, _ = np.zeros(1, np.int64).__reduce__()
        return function, args, (1, (1,), DtypeOfPointers(), False, bytes(8))


class DtypeOfPointers:
    def __reduce__(self):
        return np.dtype, ("i8", False, True), (3, "|", None, None, None, 8, 8, 63)


def test_a_number_type_with_flags_of_its_own(folder, mark):
    torch.save(np.zeros(1).view(Forged), folder / "data.pt")
    refused(folder, mark, "data.pt has a numpy type of its own making")


def test_links_that_lead_out(folder, mark, tmp_path):
    torch.save({}, folder / "data.pt")
    (folder / "actor" / "same.pt").symlink_to("../data.pt")
    look(folder)
    (tmp_path / "moved").symlink_to(folder)
    look(tmp_path / "moved")  # the folder itself may be anywhere
    outside = tmp_path / "outside"
    outside.mkdir()
    torch.save(Call(os.system, f"touch {mark}"), outside / "model_world_size_1_rank_0.pt")
    for link, target in (("critic", outside), ("actor/a.json", "/etc/passwd"), ("gone.pt", "nowhere/../../x")):
        (folder / link).symlink_to(target)
        refused(folder, mark, f"{link} is a link to '{target}', out of the folder")
        (folder / link).unlink()


def test_a_pipe(folder, mark):
    os.mkfifo(folder / "data.pt")
    refused(folder, mark, "data.pt is no file")
