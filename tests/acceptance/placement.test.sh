#!/usr/bin/env bash
# Experts may be anywhere: a placement from a table, with replicas, trains like one rank; one that follows the load moves experts with their
# optimizer state, which changes nothing but where they are, and a resumed run goes on as one that was never interrupted.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
small=(--set moe.num_experts=5 --set precision.compute=fp64 --set data.seq_length=16 --set run.steps=12 --set checkpoint.every=6)

train 1 one "${small[@]}"
train 2 table "${small[@]}" --set parallel.expert_parallel=2 --set 'parallel.placement.kind=table' \
  --set 'parallel.placement.holders=[[1],[0,1],[0],[1],[0]]'
same_losses table one 12 1e-9
for zero in 0 1 2; do
  balanced=("${small[@]}" --set parallel.expert_parallel=2 --set parallel.zero=$zero
            --set 'parallel.placement={kind: balanced, every: 4, replicas: 1}')
  train 4 balanced-$zero "${balanced[@]}"
  same_losses balanced-$zero one 12 1e-9
  grep -q "experts moved" balanced-$zero/log.txt || { cat balanced-$zero/log.txt; echo "no expert moved"; exit 1; }
  grep -q '"rank_imbalance":1\.' balanced-$zero/metrics.jsonl
done
# Interrupted between two changes, after the first.
train 4 resumed "${balanced[@]}" --set run.stop_after=6
train 4 resumed "${balanced[@]}"
identical balanced-2/checkpoints/step-00000012 resumed/checkpoints/step-00000012
# Read by another layout.
train 1 alone "${small[@]}" --resume balanced-2/checkpoints/step-00000006
same_losses alone one 6 1e-9

# refused MESSAGE [ARGUMENT ...]
refused() {
  local message=$1 status=0; shift
  "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=no "${small[@]}" --set parallel.expert_parallel=2 "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit 2 and: $message; got $status"; exit 1; }
}
refused "parallel.placement.holders: lists of 2 experts, layer 0 has 5" --set parallel.placement.kind=table --set 'parallel.placement.holders=[[0],[1]]'
refused "placement of expert 1: rank 2; wanted ascending ranks from 0 to 1" --set parallel.placement.kind=table --set 'parallel.placement.holders=[[0],[2],[0],[0],[0]]'
refused "holders: is empty" --set parallel.placement.kind=table
