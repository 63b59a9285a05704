"""The token of a cluster is for this user's eyes only."""

import os
import stat

from dsdr_verl.cluster.inventory import Inventory
from dsdr_verl.cluster.token import MODE, PATH, TOKEN, make_token, token_path, use_token


def test_only_this_user_may_read_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DSDR_CACHE", str(tmp_path))
    monkeypatch.setenv(TOKEN, "another")
    for name in (MODE, PATH):  # so that they are as before afterwards
        monkeypatch.setenv(name, "")
    inventory, before = Inventory(backend="local", nodes=1), os.umask(0)
    try:
        make_token(inventory)
    finally:
        os.umask(before)
    path = token_path(inventory)
    token = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(token) == 64
    make_token(inventory)
    assert path.read_text() == token, "nodes that are up keep theirs"
    use_token(inventory)
    assert TOKEN not in os.environ and os.environ[PATH] == str(path) and token not in os.environ.values()
    assert token not in str(capfd.readouterr())
