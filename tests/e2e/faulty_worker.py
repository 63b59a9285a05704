"""A vLLM worker whose weight sync fails from the second time on."""

from dsdr_verl.platform.vllm_worker import CPUWorkerExtension


class FailingExtension(CPUWorkerExtension):
    syncs = 0

    def update_weights_from_ipc(self, *args, **kwargs):
        type(self).syncs += 1
        if type(self).syncs > 1:
            raise OSError("no more weights, says the test")
        return super().update_weights_from_ipc(*args, **kwargs)
