#!/usr/bin/env bash
# moe.isolation in training: the same bits on one rank and on four, and after a resume in the middle; clipping, tokens and idle experts of
# each by itself; metrics say who is left out; a selector of nobody is refused with its key; isolation may be turned on and off.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens
cat >config.yaml <<'YAML'
run: {directory: run, seed: 3, steps: 9}
data: {tokenizer: bytes, train: [tokens], seq_length: 32}
model: {hidden_size: 48, num_layers: 2, num_heads: 4}
moe:
  top_k: 2
  ffn_hidden_size: 64
  groups: [{name: general, count: 4}, {name: code, count: 2, ffn_hidden_size: 32}]
  rules: [{experts: layers.0.experts.0, clip_norm: 0.05}]
  isolation: {normalise_by_tokens: true, accumulate_tokens: 150, skip_idle: true, clip_norm: 0.5, quarantine: {steps: 2, snapshot_every: 2}}
batch: {global_batch_size: 8, micro_batch_size: 2}
checkpoint: {every: 3, keep: 0}
monitor: {peak_gflops: 100}
YAML
four=(--set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2)
train 1 one --set parallel.reproducible=true
train 4 four --set parallel.reproducible=true "${four[@]}"
# same RUN: as on one rank, but for the config that is saved with it.
same() { local differences
  differences=$({ "$CADRE" checkpoint diff one/checkpoints/step-00000009 "$1/checkpoints/step-00000009" || true; } | grep -v -e '^state.config:' -e identical || true)
  [ -z "$differences" ] || { echo "$1: other bits than one rank: $differences"; exit 1; }; }
same four
train 4 moved --set parallel.reproducible=true "${four[@]}" --resume one/checkpoints/step-00000003
same moved

"$CADRE" checkpoint info one/checkpoints/step-00000009 >info.txt
for tensor in accumulated_gradient snapshot snapshot_exp_avg snapshot_exp_avg_sq; do
  grep -q "/optimizer/layers.1.moe.experts.5.w2/$tensor " info.txt || { echo "the checkpoint has no $tensor"; exit 1; }
done
! grep -q 'router.weight/snapshot' info.txt || { echo "a router has a snapshot"; exit 1; }
# Some expert kept its gradient for more than a step.
grep -o '"layers.[01].moe.experts.[0-5].w1":[0-9]*' one/checkpoints/step-00000009/manifest.json | grep -qv ':9$' || { echo "nothing was accumulated"; exit 1; }
grep -q '"skipped":\[\],"quarantined":\[\]' one/metrics.jsonl || { echo "the metrics do not say who was left out"; exit 1; }

train 1 off --set moe.isolation=null --resume one/checkpoints/step-00000003
! grep -q quarantined off/metrics.jsonl || { echo "lists without isolation"; exit 1; }
train 1 on --resume off/checkpoints/step-00000006

status=0
"$CADRE" config check config.yaml --set 'moe.isolation.experts=layers.*.experts.cod' >refused.log 2>&1 || status=$?
[ "$status" = 2 ] && grep -qF 'moe.isolation.experts: "layers.*.experts.cod": no expert has this name; did you mean "code"?' refused.log ||
  { cat refused.log; echo "isolation of nobody was not refused"; exit 1; }
