"""verl calls `run_single` for each trajectory as it finishes, while others still generate."""

from __future__ import annotations

from omegaconf import OmegaConf
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from dsdr_verl.data.problem_files import problem_id
from dsdr_verl.scoring.options import ScoringOptions
from dsdr_verl.scoring.service import ScoringClient

EMBEDDING, FORMULAS = "dsdr_embedding", "dsdr_formula_ids"


class DSDRRewardManager(RewardManagerBase):
    """Sends a finished response to the scoring service: verdict, embedding and formulas in one call.

    `reward_score` is 1 for a correct answer and 0 otherwise (plus DAPO's overlong penalty, if that is on). What the
    group reduction needs travels with the rollout in `reward_extra_info`.
    """

    def __init__(self, config, tokenizer, compute_score, reward_router_address=None, reward_model_tokenizer=None):
        super().__init__(config, tokenizer, compute_score)
        self.client = ScoringClient.connect(
            ScoringOptions.from_mapping(OmegaConf.to_container(config.scoring, resolve=True))
        )
        overlong = OmegaConf.select(config, "reward.reward_kwargs.overlong_buffer_cfg")
        self.max_response_length = config.data.max_response_length
        self.overlong_factor = overlong.penalty_factor if overlong is not None and overlong.enable else 0.0
        self.overlong_len = (overlong and overlong.len) or max(self.max_response_length // 5, 1)

    async def run_single(self, data: DataProto) -> dict:
        item = data[-1]
        width = item.batch["responses"].shape[-1]
        length = int(item.batch["attention_mask"][-width:].sum())
        response = self.tokenizer.decode(item.batch["responses"][:length], skip_special_tokens=True)
        fields = item.non_tensor_batch
        truth = str(fields["reward_model"]["ground_truth"])
        score = await self.client.score(response, truth)
        return {
            "reward_score": score.acc + self.overlong_penalty(length),
            "reward_extra_info": {
                "acc": score.acc,
                "verdict": score.verdict,
                "truncated": float(length >= self.max_response_length),
                "dsdr_seconds": score.seconds,
                # for who reads the samples of a validation: verl's uid is another one each time
                "data_source": str(fields.get("data_source", "unknown")),
                "problem": problem_id(fields.get("extra_info"), list(fields.get("raw_prompt", ())), truth),
                EMBEDDING: score.embedding,
                FORMULAS: score.formula_ids,
            },
        }

    def overlong_penalty(self, length: int) -> float:
        """DAPO's soft overlong punishment (arXiv 2503.14476, Eq. 13): 0 down to −`penalty_factor` over the buffer."""
        excess = length - (self.max_response_length - self.overlong_len)
        return -min(max(excess / self.overlong_len, 0.0), 1.0) * self.overlong_factor
