"""Attention over packed sequences on the CPU, known to transformers as `attn_implementation: dsdr_packed`.

verl packs the sequences of a micro-batch into one row (`use_remove_padding`) and tells them apart by their positions.
transformers' "sdpa" then computes the scores of all pairs of tokens and masks most of them; there is no varlen kernel
for the CPU, so this takes the sequences one by one.
"""

from __future__ import annotations

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "dsdr_packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the sequences packed into one row.

    Args:
        query, key, value: [1, heads, tokens, head size].
        position_ids: [1, tokens]; each 0 begins a sequence.

    Returns:
        [1, tokens, heads, head size], and None for the scores, which are not kept.

    Raises:
        NotImplementedError: the sequences are not packed, or reach beyond the model's sliding window.
    """
    if query.shape[0] != 1 or position_ids is None or position_ids.shape != (1, query.shape[2]):
        raise NotImplementedError(
            f"attn_implementation={NAME} takes packed sequences; set actor_rollout_ref.model.use_remove_padding=true, "
            "or actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )
    starts = (position_ids[0] == 0).nonzero().flatten()
    lengths = starts.diff(append=starts.new_tensor([query.shape[2]])).tolist()
    if sliding_window is not None and max(lengths) > sliding_window:
        raise NotImplementedError(
            f"attn_implementation={NAME} has no sliding window, and a sequence of {max(lengths)} tokens is longer than "
            f"the model's {sliding_window}; set actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )
    sequences = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *qkv, None, **kwargs)[0] for qkv in sequences], dim=1), None


AttentionInterface.register(NAME, packed_attention)
