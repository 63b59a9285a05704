"""The folder for Hugging Face that a checkpoint holds: what was trained, wherever it is loaded."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.runs import run

pytestmark = pytest.mark.e2e

SEQUENCES = [[3, 17, 40, 9, 55, 21, 8, 30], [61, 2, 44, 13, 90], [7, 7, 7, 100, 101, 102, 103, 104, 105, 5]]
# Each in a process of its own, which knows nothing of this package but what vLLM's CPU build needs.
BY_TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, sequences = sys.argv[1], json.loads(sys.argv[2])
assert len(AutoTokenizer.from_pretrained(folder)("1 + 2")["input_ids"])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
assert "dsdr_verl" not in sys.modules
def log_probs(ids):
    ids = torch.tensor([ids])
    return model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].tolist()
with torch.no_grad():
    print("found", json.dumps([log_probs(ids) for ids in sequences]))
"""
BY_VLLM = """
import json, os, sys
from dsdr_verl.platform import vllm_metadata
vllm_metadata.install()
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    folder, sequences = sys.argv[1], json.loads(sys.argv[2])
    llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=64, max_num_seqs=4)
    options = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in sequences], options, use_tqdm=False)
    print("found", json.dumps([
        [entry[token].logprob for token, entry in zip(ids[1:], output.prompt_logprobs[1:], strict=True)]
        for ids, output in zip(sequences, outputs, strict=True)
    ]), flush=True)
    llm.llm_engine.engine_core.shutdown()
    # Leaving it to Python ended in SIGABRT once, as of a thread that is inside C++ while Python finalizes.
    os._exit(0)
"""


def found_by(script: str, folder, tmp_path) -> list[torch.Tensor]:
    (tmp_path / "script.py").write_text(script)
    env = os.environ | {
        "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, tmp_path / "script.py", folder, json.dumps(SEQUENCES)],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("found ")]
    return [torch.tensor(values) for values in json.loads(line.removeprefix("found "))]


def test_an_export_is_the_trained_model(tmp_path):
    contents = "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]"
    # rates at which every weight has left where it began
    rate = "actor_rollout_ref.actor.optim.lr=1e-3"
    run(tmp_path / "run", "+algorithm=dsdr", "trainer.save_freq=2", contents, rate)
    actor = tmp_path / "run" / "checkpoints" / "global_step_2" / "actor"
    exported = load_file(actor / "huggingface" / "model.safetensors")
    shard = torch.load(actor / "model_world_size_1_rank_0.pt", weights_only=False)  # of one rank, so all of it
    assert exported.keys() == shard.keys()
    for name, tensor in shard.items():
        assert exported[name].dtype == torch.float32 and torch.equal(exported[name], tensor.to_local()), name

    by_transformers = found_by(BY_TRANSFORMERS, actor / "huggingface", tmp_path)
    by_vllm = found_by(BY_VLLM, actor / "huggingface", tmp_path)
    for one, other in zip(by_transformers, by_vllm, strict=True):
        assert one.std() > 0.01, "not the log-probs of a model that knows nothing"
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
