"""Shapes of models, from the config.json that each is published with, and what follows from them exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ModelShape:
    """A dense decoder with grouped-query attention and a gated MLP, as of Qwen2.5 and Qwen3."""

    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    vocab: int
    positions: int
    head_dim: int = 128
    tied: bool = False  # input and output embeddings are one matrix
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def q_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def vocab_parameters(self) -> int:
        """One [vocab, hidden] matrix."""
        return self.vocab * self.hidden

    @property
    def layer_parameters(self) -> int:
        attention = 2 * self.hidden * (self.q_width + self.kv_width)
        bias = (self.q_width + 2 * self.kv_width) * self.qkv_bias
        norms = 2 * self.hidden + 2 * self.head_dim * self.qk_norm
        return attention + bias + 3 * self.hidden * self.mlp + norms

    @property
    def parameters(self) -> int:
        """Distinct ones: a tied matrix counts once."""
        return self.vocab_parameters * (1 if self.tied else 2) + self.layers * self.layer_parameters + self.hidden

    @property
    def kv_bytes(self) -> int:
        """Bytes of a token's keys and values in bfloat16, over all layers."""
        return 2 * 2 * self.layers * self.kv_width


_MATH_1_5B = ModelShape(28, 1536, 8960, 12, 2, 151_936, 4096, tied=True, qkv_bias=True)
_MATH_7B = ModelShape(28, 3584, 18944, 28, 4, 152_064, 4096, qkv_bias=True)
SHAPES = {
    "Qwen/Qwen2.5-Math-1.5B": _MATH_1_5B,
    "Qwen/Qwen2.5-Math-7B": _MATH_7B,
    "Qwen/Qwen2.5-7B": ModelShape(28, 3584, 18944, 28, 4, 152_064, 131_072, qkv_bias=True),
    "Qwen/Qwen2.5-32B": ModelShape(64, 5120, 27648, 40, 8, 152_064, 131_072, qkv_bias=True),
    "Qwen/Qwen3-1.7B": ModelShape(28, 2048, 6144, 16, 8, 151_936, 40_960, tied=True, qk_norm=True),
    "Qwen/Qwen3-4B": ModelShape(36, 2560, 9728, 32, 8, 151_936, 40_960, tied=True, qk_norm=True),
    "Qwen/Qwen3-8B": ModelShape(36, 4096, 12288, 32, 8, 151_936, 40_960, qk_norm=True),
    "Qwen/Qwen3-32B": ModelShape(64, 5120, 25600, 64, 8, 151_936, 40_960, qk_norm=True),
    # to compare the estimates with published figures
    "meta-llama/Llama-3.1-8B": ModelShape(32, 4096, 14336, 32, 8, 128_256, 131_072),
}


def shape_of(path: str) -> ModelShape:
    """The shape of `actor_rollout_ref.model.path`: a name of the table, or a local folder with a config.json.

    Raises:
        ValueError: neither, or a config.json of another kind of model.
    """
    if path in SHAPES:
        return SHAPES[path]
    file = Path(path).expanduser() / "config.json"
    if not file.is_file():
        raise ValueError(
            f"actor_rollout_ref.model.path is {path!r}, a model whose shape is not known here; give a folder with its "
            f"config.json, or one of {', '.join(SHAPES)}"
        )
    config = json.loads(file.read_text())
    kind = config.get("model_type")
    if kind not in ("llama", "qwen2", "qwen3"):
        raise ValueError(
            f"actor_rollout_ref.model.path is a model of type {kind!r}; planned are llama, qwen2 and qwen3"
        )
    return ModelShape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        mlp=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        vocab=config["vocab_size"],
        positions=config["max_position_embeddings"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
    )
