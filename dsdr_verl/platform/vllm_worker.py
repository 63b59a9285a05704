"""vLLM's side of a weight sync on the CPU.

vLLM prepacks its linear layers for the CPU, after which they have lost their `weight_loader`: verl's own extension
then fails. vLLM's `reload_weights` does the job, except for a tied LM head, whose packed copy it leaves stale.
"""

from __future__ import annotations

import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from dsdr_verl.platform.sockets import of_this_run


class CPUWorkerExtension(vLLMColocateWorkerExtension):
    """Named by `actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls`."""

    def update_weights_from_ipc(self, peft_config: dict | None = None, base_sync_done=False, use_shm: bool = False):
        """Receive every bucket, then reload the model once.

        Raises:
            NotImplementedError: for LoRA adapters, which this path does not carry.
        """
        if peft_config:
            raise NotImplementedError("LoRA weight sync is not supported with hardware=cpu; set model.lora_rank=0")
        weights: list[tuple[str, torch.Tensor]] = []
        receiver = BucketedWeightReceiver(self._get_zmq_handle(), device=torch.device("cpu"), use_shm=use_shm)
        # Cloned: the buckets alias shared memory that the sender takes back.
        receiver.receive_weights(lambda bucket, is_last: weights.extend((name, w.clone()) for name, w in bucket))
        self.model_runner.reload_weights(weights_iterator=iter(weights))
        self._repack_tied_head()

    def _get_zmq_handle(self) -> str:
        return of_this_run(super()._get_zmq_handle())

    def _repack_tied_head(self) -> None:
        model = self.model_runner.model
        head, config = getattr(model, "lm_head", None), self.model_runner.model_config.hf_config
        if head is not None and getattr(config, "tie_word_embeddings", False):
            head.quant_method.process_weights_after_loading(head)
