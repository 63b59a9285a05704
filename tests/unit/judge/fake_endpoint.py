"""An endpoint that answers by a script, over real HTTP."""

import json
import threading
import time
from collections import deque
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SOON = {"retry-after-ms": "1"}  # else openai waits half a second and more


class Reply(NamedTuple):
    status: int = 200
    body: Any = None
    headers: dict = {}  # noqa: RUF012
    delay: float = 0.0  # before the reply
    drip: float = 0.0  # between its bytes


def completion(content, finish_reason="stop") -> Reply:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return Reply(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})


def scores(logic, formula, semantic) -> Reply:
    return completion(json.dumps({"logic": logic, "formula": formula, "semantic": semantic}))


def error(status, message="no", **headers) -> Reply:
    return Reply(status, {"error": {"message": message, "type": "t", "code": "c"}}, SOON | headers)


class FakeEndpoint:
    """Answers questions by `script`, then by `default`; probes by `probe`, and what asks for a schema by `schema`."""

    def __init__(self):
        self.script: deque[Reply] = deque()
        self.default = lambda body: scores(1, 2, 3)
        self.probe, self.schema = scores(0, 0, 0), None
        self.requests: list[dict] = []
        self.headers: list[Message] = []
        self.busy = self.busiest = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def questions(self) -> list[dict]:
        return [request for request in self.requests if not is_probe(request)]

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _reply(self, body) -> Reply:
        if self.schema and "response_format" in body:
            return self.schema
        if is_probe(body):
            return self.probe
        return self.script.popleft() if self.script else self.default(body)

    def _handler(outer):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.headers.append(self.headers)
                    outer.busy += 1
                    outer.busiest = max(outer.busiest, outer.busy)
                    reply = outer._reply(body)
                time.sleep(reply.delay)
                with outer._lock:
                    outer.busy -= 1
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in ({"content-type": "application/json"} | reply.headers).items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    for i in range(0, len(data), 1 if reply.drip else len(data)):
                        self.wfile.write(data[i : i + (1 if reply.drip else len(data))])
                        time.sleep(reply.drip)
                except OSError:
                    pass  # the client has gone, as a timeout should

            def log_message(self, *args):
                pass

        return Handler


def is_probe(body: dict) -> bool:
    return "Count on from 1" in body["messages"][1]["content"]


def mark_of(body: dict) -> str:
    """The code between the texts of a question."""
    return body["messages"][1]["content"].split()[1]


def shown(body: dict) -> list[str]:
    """The solutions of a question, in the order shown."""
    mark = mark_of(body)
    parts = body["messages"][1]["content"].split(f"=== {mark} ")
    return [part.split(" ===\n", 1)[1].strip("\n") for part in parts if part.startswith("solution")]
