"""The trainer's side of a weight sync on the CPU.

verl's sender waits on its socket for ever when the vLLM worker has failed or gone. This one looks at the worker's
call meanwhile, and fails with what that has failed with.
"""

from __future__ import annotations

import time
from typing import Any

import ray
import torch
import zmq
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender, create_shared_memory
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from dsdr_verl.platform.sockets import of_this_run, segment_of_this_run

SILENCE_S = 50.0  # of a worker that neither answers nor fails


class CPUServerAdapter(ServerAdapter):
    """verl's, registered in its place by `fsdp`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.zmq_handle = of_this_run(self.zmq_handle)

    @torch.no_grad()
    async def update_weights(self, weights, global_steps: int | None = None, wire_format="named_tensors", **kwargs):
        """Send every tensor, and return when the vLLM worker has loaded them.

        Raises:
            NotImplementedError: for deltas, which need CUDA.
            ray.exceptions.RayError: the worker has failed, or has died.
            TimeoutError: it has done nothing for `SILENCE_S`.
        """
        if wire_format != "named_tensors":
            raise NotImplementedError(f"wire_format={wire_format!r} is not supported with hardware=cpu")
        call = await self._execute_method(
            "update_weights_from_ipc", non_block=True, kwargs={**kwargs, "use_shm": self.use_shm}
        )
        megabytes = self.config.checkpoint_engine.update_weights_bucket_megabytes
        await WatchedSender(self.zmq_handle, megabytes, call).async_send_weights(weights)
        if call is not None:
            await call
        if self._has_server:
            await self.server_handle.clear_kv_cache.remote()
            if global_steps is not None:
                await self.server_handle.set_global_steps.remote(global_steps)


class WatchedSender(BucketedWeightSender):
    """
    Args:
        call: of the receiver's method; None where another process has made it.
    """

    def __init__(self, zmq_handle: str, bucket_size_mb: int, call: ray.ObjectRef | None):
        super().__init__(zmq_handle, bucket_size_mb, use_shm=True)
        self._call = call

    def _init_socket(self) -> None:
        super()._init_socket()
        self.socket = WatchedSocket(self.socket, self._call)

    def _init_buffer(self) -> None:
        name = segment_of_this_run()
        self.shm = create_shared_memory(self.bucket_size, name)  # known before any wait: it goes if that fails
        self.buffer = torch.frombuffer(self.shm.buf, dtype=torch.uint8)
        self.socket.send_pyobj({"name": name, "size": self.bucket_size})
        self.socket.recv()


class WatchedSocket:
    """What the sender uses of a socket, with waits that end."""

    LOOK_MS = 500

    def __init__(self, socket: zmq.Socket, call: ray.ObjectRef | None):
        self._socket, self._call = socket, call

    def send_pyobj(self, message: Any) -> None:
        self._wait(zmq.POLLOUT)
        self._socket.send_pyobj(message)

    def recv(self) -> bytes:
        self._wait(zmq.POLLIN)
        return self._socket.recv()

    def close(self) -> None:
        self._socket.close(linger=0)

    def _wait(self, event: int) -> None:
        deadline = time.monotonic() + SILENCE_S
        while not self._socket.poll(self.LOOK_MS, event):
            if self._call is not None and ray.wait([self._call], timeout=0)[0]:
                ray.get(self._call)
                raise RuntimeError("the vLLM worker has returned before it had all weights")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the vLLM worker has done nothing for {SILENCE_S:.0f} s")
