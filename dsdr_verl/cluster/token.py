"""The token that opens a cluster. Ray's dashboard and job API run code for whoever may talk to them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dsdr_verl.cluster.inventory import Inventory

MODE, PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"


def token_file(inventory: Inventory) -> Path:
    """Made once a cluster, with 256 random bits; only this user may read it."""
    path = inventory.folder / "token"
    if not path.exists():
        inventory.folder.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path


def use_home_token() -> None:
    """As `ray start --head` and `ray.init` do: whoever has a token in ~/.ray uses it, unless told otherwise."""
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault(MODE, "token")


def use_token(inventory: Inventory) -> None:
    """From here on, this process and its children talk to Ray with the cluster's token."""
    os.environ |= {MODE: "token", PATH: str(token_file(inventory))}
