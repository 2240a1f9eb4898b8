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

# By group: copies everywhere, and some on ranks of their own; where none has copies, with the bits of one rank.
groups() { echo "moe={top_k: 2, ffn_hidden_size: 96, groups: [{name: a, count: 2, placement: $1}, {name: b, count: 2, placement: $2}, {name: c, count: 1}]}"; }
train 1 plain "${small[@]}" --set "$(groups even even)"
train 4 copies "${small[@]}" --set "$(groups everywhere 1..2)" --set parallel.expert_parallel=4
same_losses copies plain 12 1e-9
single=("${small[@]}" --set precision.compute=fp32 --set parallel.reproducible=true)
train 1 bits "${single[@]}" --set "$(groups even even)"
train 4 own "${single[@]}" --set "$(groups 3 1..2)" --set parallel.expert_parallel=4 --set run.stop_after=6
train 2 own "${single[@]}" --set "$(groups 0..1 3)" --set parallel.expert_parallel=2 --resume must
differences=$({ "$CADRE" checkpoint diff bits/checkpoints/step-00000012 own/checkpoints/step-00000012 || true; } | grep -v -e '^state.config:' -e identical || true)
[ -z "$differences" ] || { echo "own ranks: other bits than on one: $differences"; exit 1; }

# refused MESSAGE [ARGUMENT ...]
refused() {
  local message=$1 status=0; shift
  "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=no "${small[@]}" --set parallel.expert_parallel=2 "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit 2 and: $message; got $status"; exit 1; }
}
refused "parallel.placement.holders: lists of 2 experts, layer 0 has 5" --set parallel.placement.kind=table --set 'parallel.placement.holders=[[0],[1]]'
refused "placement of expert 1: rank 2; wanted ascending ranks from 0 to 1" --set parallel.placement.kind=table --set 'parallel.placement.holders=[[0],[2],[0],[0],[0]]'
refused "holders: is empty" --set parallel.placement.kind=table
refused 'moe.groups[0].placement: in layer 0: got "nowhere", wanted even, everywhere, or ranks' --set "$(groups nowhere even)"
refused 'parallel.placement.kind: balanced beside placement: everywhere of the group "a"' --set "$(groups everywhere even)" --set parallel.placement.kind=balanced
refused 'parallel.reproducible: experts have replicas within a group' --set "$(groups everywhere even)" --set parallel.reproducible=true
