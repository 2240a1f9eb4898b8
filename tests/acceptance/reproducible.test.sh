#!/usr/bin/env bash
# With parallel.reproducible, FP32 losses, norms, weights and optimizer state have the same bits on every layout; without, they have not.
# What cannot have them is refused; auto, the default, is without where that can't be or takes much memory.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
small=(--set model.num_layers=3 --set moe.num_experts=6 --set run.steps=6 --set checkpoint.every=0 --set data.seq_length=32
       --set "batch={global_batch_size: 8, micro_batch_size: 1}")
reproducible=("${small[@]}" --set parallel.reproducible=true)
at=checkpoints/step-00000006

# numbers DIRECTORY: what training computes, of every step.
numbers() { grep -oE '"(step|loss|balance_loss|z_loss|grad_norm|clip)":[^,]+' "$1/metrics.jsonl"; }
# tensors DIRECTORY OTHER: the differences of two checkpoints but for the config.
tensors() { { "$CADRE" checkpoint diff "$1/$at" "$2/$at" || true; } | grep -v -e '^state.config:' -e identical || true; }

layouts="
dp2          2
dp4-zero0    4 zero=0
ep2          2 expert_parallel=2
ep2-cuts     2 expert_parallel=2 overlap_chunks=2 max_dispatch_tokens=40
dp4-ep2      4 expert_parallel=2 dispatcher=all_gather
ep4          4 expert_parallel=4
moved        2 expert_parallel=2 placement.kind=balanced placement.every=2
pp3          3 pipeline_parallel=3
pp2-zb       2 pipeline_parallel=2 schedule=zero_bubble
dp2-ep2-pp2  4 pipeline_parallel=2 expert_parallel=2 schedule=interleaved
"
train 1 one "${reproducible[@]}"
while read -r name ranks settings; do
  [ -n "$name" ] || continue
  arguments=()
  for setting in $settings; do arguments+=(--set "parallel.$setting"); done
  train "$ranks" "$name" "${reproducible[@]}" "${arguments[@]}" </dev/null
  cmp <(numbers one) <(numbers "$name") || { echo "$name: other losses or norms than on one rank"; exit 1; }
  differences=$(tensors one "$name" | grep -v '^state.placement' || true)
  [ -z "$differences" ] || { echo "$name: $differences"; exit 1; }
done <<<"$layouts"

train 1 plain-one "${small[@]}" --set parallel.reproducible=false
train 2 plain-two "${small[@]}" --set parallel.reproducible=false --set parallel.expert_parallel=2
[ -n "$(tensors plain-one plain-two)" ] || { echo "without reproducible the bits are the same, too: this test proves nothing"; exit 1; }

# chosen WANTED RANKS [ARGUMENT ...]: what auto becomes.
chosen() {
  local wanted=$1 ranks=$2; shift 2
  train "$ranks" auto "${small[@]}" "$@"
  grep -qE "^ *reproducible: $wanted" auto/config.resolved.yaml || { echo "auto with $*: wanted $wanted"; exit 1; }
}
chosen true 2 --set batch.micro_batch_size=2
[ -z "$(tensors auto one)" ] && { echo "other micro-batches have the same bits: this test proves nothing"; exit 1; }
mv auto two-ranks
chosen true 1 --set batch.micro_batch_size=2
cmp <(numbers auto) <(numbers two-ranks) && [ -z "$(tensors auto two-ranks)" ] || { echo "auto: other bits on two ranks than on one"; exit 1; }
rm -r auto; chosen true 2 --set parallel.expert_parallel=2 --set batch.micro_batch_size=4
rm -r auto; chosen false 2 --set parallel.expert_parallel=2 --set batch.micro_batch_size=2
rm -r auto; chosen false 1
rm -r auto; chosen false 2 --set parallel.zero=2 --set batch.micro_batch_size=4
rm -r auto; chosen false 2 --set parallel.expert_parallel=2 --set batch.micro_batch_size=4 --set parallel.max_dispatch_tokens=40

# refused RANKS MESSAGE [ARGUMENT ...]
refused() {
  local ranks=$1 message=$2 status=0; shift 2
  "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set run.directory=no "${reproducible[@]}" "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit 2 and: $message; got $status"; exit 1; }
}
refused 1 "parallel.reproducible: a rank has 6 micro-batches a step; wanted a power of two, such as 4" --set batch.global_batch_size=6
refused 2 "parallel.reproducible: zero 2" --set parallel.zero=2
refused 2 "parallel.reproducible: experts have replicas" --set parallel.expert_parallel=2 --set moe.num_experts=1 --set moe.top_k=1
