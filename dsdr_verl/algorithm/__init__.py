"""DSDR as pure tensor maths, to be read beside the paper (arXiv 2602.19895v1).

Nothing here knows of verl, Ray or files: tensors in, tensors out. A whole batch is scored at once, its groups told
apart by a dense group index; groups may differ in size and their rollouts may stand in any order. Rollouts that are not
valid (padding) never count and get 0 everywhere.

| module      | holds                                                                  | paper              |
|-------------|------------------------------------------------------------------------|--------------------|
| `options`   | the method's settings, and what is wrong with them                     | §3.2, appendix     |
| `groups`    | which rollouts share a prompt; sums, means, solve rates over them      | Lemma C.3          |
| `diversity` | D_emb, D_eq, d and d̄: how unlike the rest of its group a rollout is    | Eqs. 4-9           |
| `advantage` | the correct-only bonus and GRPO's advantages                           | Eqs. 2, 10         |
| `coupling`  | w: which correct rollouts the local term acts on                       | Eq. 11, Prop. C.5  |
| `local`     | J_local: entropy along the correct rollouts                            | Eqs. 12-15         |
| `scores`    | all of the above that is known before the first gradient step, at once | Eqs. 4-11          |

Shape suffixes name the axes of a tensor in order, `x_BT` being of shape [B, T]:

    B  rollouts in the batch         D  embedding dimensions      F  (rollout, formula) pairs of the whole batch
    P  prompts, that is, groups      T  response tokens           G  rollouts of one group (a number, never an axis)
"""
