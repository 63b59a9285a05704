"""What torch.save's files would do, seen before verl loads them: a pickle may call whatever it names.

verl loads with `weights_only=False`. Here each file is first read by torch's own restricted unpickler, without its
tensors' data: that one knows no opcode but those that `torch.save` writes, and calls nothing but what rebuilds tensors
and DTensors. The arrays of a random generator's state, which it would refuse, are taken by stand-ins that let plain
numbers through. So what passes has called nothing else, and will not when verl loads the same bytes.
"""

from __future__ import annotations

import os
import pickletools
import re
import stat
from pathlib import Path

import torch
import torch.distributed.tensor  # has torch take DTensors for safe

_ZIP = b"PK\x03\x04"  # as torch tells its format from those before it
_PLAIN = re.compile(r"[biuf][1248]")
_LONGEST = 200  # characters of a reason


class Unfit(ValueError):
    """A file that is not to be loaded; the message names it, and what is wrong with it."""


def look(folder: Path) -> None:
    """Whether what verl loads from a checkpoint's folder can do nothing but make tensors and numbers.

    Raises:
        Unfit: a `*.pt` may call something else, or is none of torch's; or a link leads out of the folder.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise Unfit(f"{path.relative_to(root)} is a link to {os.readlink(path)!r}, out of the folder")
            if path.suffix == ".pt" and (reason := _reason_against(path)):
                raise Unfit(f"{path.relative_to(root)} {reason}")


def _reason_against(path: Path) -> str | None:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
        return "is no file"
    with open(path, "rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            return "is not in the format of torch.save"
    try:
        with torch.serialization.safe_globals(_NUMPY):
            torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # of a dozen kinds, on files that are made for it
        return _in_short(error)
    return None


def _in_short(error: Exception) -> str:
    """torch's message tells at length how to load the file all the same."""
    text = str(error)
    if found := re.search(r"GLOBAL (\S+)(?: was not an| whose module)", text):
        return f"would call {found[1][:_LONGEST]!r}, which verl's checkpoints do not"
    if found := re.search(r"Unsupported operand (\d+)", text):
        known = pickletools.code2op.get(chr(int(found[1])))
        name = known.name if known else found[1]
        return f"has the opcode {name}, which torch.save does not write, and may call anything"
    if isinstance(error, Unfit):
        return f"has {text}, which verl's checkpoints have not"
    return f"cannot be read as tensors and numbers ({type(error).__name__}: {text.strip()[-_LONGEST:]!r})"


class _Dtype:
    """In the place of numpy.dtype, where one of objects could make pointers of bytes."""

    def __new__(cls, code, align=False, copy=True):
        if not (isinstance(code, str) and _PLAIN.fullmatch(code)):
            raise Unfit(f"a numpy array of {str(code)[:_LONGEST]!r}")
        return super().__new__(cls)

    def __setstate__(self, state):
        if state[1] not in ("<", "|") or state[2:] != (None, None, None, -1, -1, 0):
            raise Unfit("a numpy type of its own making")


class _Array:
    """In the place of numpy.ndarray."""

    def __new__(cls, *args):
        raise Unfit("a numpy array that is not made of bytes")

    def __setstate__(self, state):
        *_, dtype, _, content = state
        if type(dtype) is not _Dtype or type(content) is not bytes:
            raise Unfit("a numpy array that is not made of bytes")


def _reconstruct(subtype, shape, code):
    if subtype is not _Array:
        raise Unfit("a numpy array that is none")
    return object.__new__(_Array)


_NUMPY = [
    (_Dtype, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    *((_reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),  # of numpy 1 and 2
]
