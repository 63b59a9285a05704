"""The audit tells a vulnerable package from a database that does not answer. pip-audit is real, the database a fake."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import audit

ADVISORY = {
    "id": "PYSEC-0000-1",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "zipp", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
            "versions": ["4.1.2"],
        }
    ],
}


@pytest.fixture
def database():
    """Knows one advisory; `status` is how it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append((asked["package"]["name"], asked["version"]))
            answer = json.dumps({"vulns": [ADVISORY]} if asked["package"]["name"] == server.vulnerable else {}).encode()
            self.send_response(server.status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.vulnerable, server.status, server.asked = None, 200, []
    server.options = ["--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pins(tmp_path) -> list[str]:
    """A hashed file and one without hashes, as they stand in requirements/."""
    hashed, plain = tmp_path / "a.lock", tmp_path / "torch.txt"
    hashed.write_text(f"wrapt==2.5.2 \\\n    --hash=sha256:{'0' * 64}\nzipp==4.1.2 \\\n    --hash=sha256:{'1' * 64}\n")
    plain.write_text("# no hash\ntorch==2.13.0+cpu\n")
    return ["--pins", str(hashed), str(plain)]


def test_nothing_is_found(database, pins, capsys):
    assert audit.main([*pins, *database.options]) == audit.NONE
    assert "a.lock: 2 of 2 packages looked up" in capsys.readouterr().out
    assert sorted(database.asked) == [("torch", "2.13.0+cpu"), ("wrapt", "2.5.2"), ("zipp", "4.1.2")]


@pytest.mark.parametrize("tolerant", [[], ["--unreachable-ok"]])
def test_a_vulnerable_package_fails(database, pins, capsys, tolerant):
    database.vulnerable = "zipp"
    assert audit.main([*pins, *tolerant, *database.options]) == audit.FOUND
    assert "zipp 4.1.2: PYSEC-0000-1, fixed in 9.9" in capsys.readouterr().out
    assert audit.main([*pins, *database.options, "--ignore-vuln", "PYSEC-0000-1"]) == audit.NONE


@pytest.mark.parametrize("how", ["nobody", "broken"])
def test_a_database_that_does_not_answer(database, pins, capsys, how):
    options = database.options
    if how == "nobody":
        options = ["--osv-url", "http://127.0.0.1:9/v1/query"]  # discard: nobody listens
    else:
        database.status = 503
    assert audit.main([*pins, *options]) == audit.UNREACHABLE
    assert audit.main([*pins, "--unreachable-ok", *options]) == audit.NONE
    assert capsys.readouterr().out.count("NOT AUDITED") == 2


def test_a_file_that_pip_audit_does_not_take_is_no_clean_bill(database, tmp_path):
    (tmp_path / "loose.txt").write_text("zipp>=1\n")
    pins = ["--pins", str(tmp_path / "loose.txt")]
    assert audit.main([*pins, "--unreachable-ok", *database.options]) == audit.FAILED


def test_all_pins_of_the_project_are_audited():
    found = {path.name for path in audit.REQUIREMENTS.iterdir()} - {"cpu-overrides.txt"}
    assert found == {Path(path).name for path in audit.PINS}
