#!/usr/bin/env bash
# What each run of a study has learned: 64 samples of each held-out problem, into <run>/evaluation. Made once; the same
# command goes on. `bash recipe/study/evaluate.sh outputs/study`
set -euo pipefail
for run in "${1:?the folder of a sweep}"/*/; do
  run=${run%/}
  grep -qs '"state": "finished"' "$run/sweep.json" && [ ! -f "$run/evaluation/summary.json" ] || continue
  seed=${run##*/seed} # of the sampling too: base has no other
  checkpoint=$(ls -d "$run"/checkpoints/global_step_* 2>/dev/null | sort -V | tail -1 || true)
  echo "== $run"
  "${PYTHON:-python}" -m dsdr_verl.evaluate model="'${checkpoint:-tiny_countdown}'" task=tiny_countdown sampling=untempered \
    max_tokens=48 seed="${seed%%-*}" output="'$run/evaluation'"
done
