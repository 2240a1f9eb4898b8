#!/usr/bin/env bash
# moe.rules in training: a frozen expert's weights and moments stay, bit for bit, on one rank and on four, and thaw; others go on; an expert with
# another optimizer has its tensors alone, and begins anew when it changes; moe.train_only trains nothing else; a wrong rule is refused with its
# key.
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
  groups: [{name: general, count: 4}, {name: code, count: 2, ffn_hidden_size: 32}, {name: always, shared: true}]
  rules:
    - {experts: layers.*.experts.code, lr_scale: 0.5, frozen: step > 3 && step <= 6}
    - {experts: "layers.1.experts.code[1]", frozen: false}
    - {experts: layers.0.experts.0..1, clip_norm: 0.05}
    - {experts: layers.1.experts.0, optimizer: sgd}
    - {experts: layers.1.experts.always, frozen: step > 3 && step <= 6}
batch: {global_batch_size: 8, micro_batch_size: 2}
checkpoint: {every: 3, keep: 0}
monitor: {peak_gflops: 100}
YAML
train 1 one --set parallel.reproducible=true
train 4 four --set parallel.reproducible=true --set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2

# changed RUN FROM TO: tensors that differ between two checkpoints of a run.
changed() { { "$CADRE" checkpoint diff "$1/checkpoints/step-0000000$2" "$1/checkpoints/step-0000000$3" || true; } | grep -oE '/(model|optimizer)/[^ :]+' | sort -u; }
for run in one four; do
  changed $run 3 6 >while.txt
  changed $run 6 9 >after.txt
  for expert in layers.0.moe.experts.4 layers.0.moe.experts.5 layers.1.moe.experts.4 layers.1.moe.shared.always; do
    ! grep -qF "/$expert." while.txt || { grep -F "/$expert." while.txt; echo "$run: $expert is frozen and changed"; exit 1; }
    grep -qF "/model/$expert.w1" after.txt || { echo "$run: $expert did not thaw"; exit 1; }
  done
  for expert in layers.1.moe.experts.5 layers.0.moe.experts.0 layers.0.moe.shared.always; do
    grep -qF "/model/$expert.w1" while.txt || { echo "$run: $expert did not change"; exit 1; }
  done
done
differences=$({ "$CADRE" checkpoint diff one/checkpoints/step-00000009 four/checkpoints/step-00000009 || true; } | grep -v -e '^state.config:' -e identical || true)
[ -z "$differences" ] || { echo "four ranks: other bits than one: $differences"; exit 1; }

"$CADRE" checkpoint info four/checkpoints/step-00000009 >info.txt
grep -q '/optimizer/layers.1.moe.experts.0.w1/momentum ' info.txt || { echo "an expert with SGD has no momentum"; exit 1; }
! grep -q '/optimizer/layers.1.moe.experts.0.w1/exp_avg' info.txt || { echo "an expert with SGD has AdamW's moments"; exit 1; }
train 4 other --set 'moe.rules[3].optimizer=adamw' --set parallel.expert_parallel=2 --resume four/checkpoints/step-00000006
grep -q 'moments of 1 experts begin anew' other.log || { cat other.log; echo "an expert's other optimizer went unmentioned"; exit 1; }
grep -q '"layers.1.moe.experts.0.w1":3,' other/checkpoints/step-00000009/manifest.json || { echo "its step count did not begin anew"; exit 1; }

train 4 only --set 'moe.train_only=[layers.*.experts.code]' --set parallel.expert_parallel=2 --set parallel.zero=2 --resume one/checkpoints/step-00000006
{ "$CADRE" checkpoint diff one/checkpoints/step-00000006 only/checkpoints/step-00000009 || true; } | grep -oE '/(model|optimizer)/[^ :]+' | sort -u >only.txt
grep -q '/model/layers.0.moe.experts.5.w1' only.txt || { echo "what train_only names is not trained"; exit 1; }
! grep -qvE '/layers.[01].moe.experts.[45]\.' only.txt || { grep -vE '/layers.[01].moe.experts.[45]\.' only.txt; echo "train_only: other tensors changed"; exit 1; }

status=0
"$CADRE" config check config.yaml --set 'moe.train_only=[]' >refused.log 2>&1 || status=$?
[ "$status" = 2 ] && grep -qF 'moe.train_only: is empty' refused.log || { cat refused.log; echo "training nothing was not refused"; exit 1; }
status=0
"$CADRE" config check config.yaml --set 'moe.rules[0].experts=layers.*.experts.cod' >refused.log 2>&1 || status=$?
[ "$status" = 2 ] && grep -qF 'moe.rules[0].experts: "layers.*.experts.cod": no expert has this name; did you mean "code"?' refused.log ||
  { cat refused.log; echo "a rule for nobody was not refused"; exit 1; }
status=0
"$CADRE" config check config.yaml --set 'moe.rules[4].dropout=0.1' >refused.log 2>&1 || status=$?
[ "$status" = 2 ] && grep -qF 'moe.rules[4].dropout: layers.1.experts.always is shared' refused.log || { cat refused.log; echo "dropout of shared experts was not refused"; exit 1; }
