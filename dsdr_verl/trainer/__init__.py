"""What joins the method and the scoring service to verl. The path of one rollout:

`reward_manager` (scored as it finishes) → `queue` (read back by group) → `dsdr_trainer` (group reduction, advantages)
→ `loss` (local regulariser around verl's policy loss).
"""
