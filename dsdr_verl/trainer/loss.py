"""The actor's loss: verl's `ppo_loss` minus λ_ℓ times the local regulariser (Eq. 16).

verl's policy-loss registry hands out neither the batch nor the entropy, so the local term is taken one level up, where
`TrainingWorker.set_loss_fn` accepts any function of (model_output, data).
"""

from __future__ import annotations

from tensordict import TensorDict
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from dsdr_verl.algorithm.local import local_objective
from dsdr_verl.algorithm.options import DSDROptions

# The [B] column that the trainer writes in the advantage stage: w_i of Eq. 11.
WEIGHT = "dsdr_weight"


def dsdr_loss(
    model_output,
    data: TensorDict,
    dp_group=None,
    *,
    config: ActorConfig,
    options: DSDROptions,
    group_size: int,
):
    """−J_DSDR of one micro-batch, scaled as verl scales its losses.

    J_local is a sum over the rollouts of a prompt, averaged over prompts (Eq. 15), so it is divided by the prompts of
    the whole mini-batch, `global_batch_size / group_size`, and multiplied by `dp_size` because FSDP averages gradients
    over ranks.

    Returns:
        The scalar loss and its metrics: the same keys on every micro-batch and rank, as verl's reduction needs.
    """
    loss, metrics = ppo_loss(config=config, model_output=model_output, data=data, dp_group=dp_group)
    entropy = model_output.get("entropy") if options.local_estimator == "full" else None
    columns = data.select("response_mask", "old_log_probs").to_padded_tensor()
    J_B = local_objective(
        log_prob_BT=no_padding_2_padding(model_output["log_probs"], data),
        old_log_prob_BT=columns["old_log_probs"],
        weight_B=data[WEIGHT],
        response_mask_BT=columns["response_mask"].bool(),
        entropy_BT=None if entropy is None else no_padding_2_padding(entropy, data),
        estimator=options.local_estimator,
        ratio_clip=options.local_ratio_clip,
    )
    J_local = J_B.sum() / (data["global_batch_size"] / group_size) * data["dp_size"]
    metrics["actor/dsdr_local"] = Metric(value=J_local.detach(), aggregation=AggregationType.SUM)
    return loss - options.lambda_l * J_local, metrics
