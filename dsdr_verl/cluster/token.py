"""The token that opens a cluster. Ray's dashboard and job API run code for whoever may talk to them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dsdr_verl.cluster.backends import ClusterError
from dsdr_verl.cluster.inventory import Inventory

MODE, PATH, TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"


def token_path(inventory: Inventory) -> Path:
    return inventory.folder / "token"


def make_token(inventory: Inventory) -> None:
    """Once a cluster, of 256 random bits; only this user may read it."""
    path = token_path(inventory)
    if not path.exists():
        inventory.folder.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))


def use_home_token() -> None:
    """As `ray start --head` and `ray.init` do: whoever has a token in ~/.ray uses it, unless told otherwise."""
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault(MODE, "token")


def use_token(inventory: Inventory) -> None:
    """From here on, this process and its children talk to Ray with the cluster's token.

    Raises:
        ClusterError: it is not on this machine.
    """
    path = token_path(inventory)
    if not path.exists():
        raise ClusterError(
            f"the token of {inventory.name} is not here ({path}): make cluster-up makes it, or bring it from the "
            "machine that the cluster was brought up from"
        )
    os.environ.pop(TOKEN, None)  # it would win over the file
    os.environ |= {MODE: "token", PATH: str(path)}
