#!/usr/bin/env bash
# Every kind of router, in training: four ranks, stopped half-way and resumed, have the bits of one rank that was not, experts that compute next
# to nothing among them; biases that balance experts are learned and saved, and so are thresholds where experts choose tokens, which evaluation
# goes by; a router that a layout of experts cannot have is refused with its key.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
common=(--set parallel.reproducible=true --set run.steps=6 --set checkpoint.every=3)
four=(--set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2)

# check NAME MOE [EXPERTS]: a router and its losses, as a mapping over the config's `moe`, with EXPERTS.
check() {
  local moe="moe={top_k: 2, ${3:-num_experts: 8, shared_experts: 1}, $2}"
  train 1 "$1-one" "${common[@]}" --set "$moe"
  train 4 "$1-four" "${common[@]}" "${four[@]}" --set "$moe" --set run.stop_after=3
  train 4 "$1-four" "${common[@]}" "${four[@]}" --set "$moe" --resume must
  local differences
  differences=$({ "$CADRE" checkpoint diff "$1-one/checkpoints/step-00000006" "$1-four/checkpoints/step-00000006" || true; } |
    grep -v -e '^state.config:' -e identical || true)
  [ -z "$differences" ] || { echo "$1: four ranks have other bits than one: $differences"; exit 1; }
}
check switch 'router: {renormalise: false, jitter: 0.1}, balance: {aux_loss_coef: "0.01 * (step <= 4)"}'
check noisy 'router: {noise: true}, balance: {aux_loss_coef: 0, importance_coef: 0.1, load_coef: 0.1, scope: global_batch}'
check deepseek 'router: {score: sigmoid, bias_update_rate: 0.001, groups: 4, kept_groups: 2, scale: 2.5}, balance: {aux_loss_coef: 0.0001, scope: sequence}'
check levels 'router: {hierarchical: true, groups: 2, kept_groups: 1}, balance: {hinge_coef: 0.1, entropy_coef: -0.01}'
check keys 'router: {key_size: 16, choice: top_p, top_p: 0.6}'
check random 'router: {choice: random}'
check balanced 'router: {choice: balanced}'
check experts 'router: {choice: expert, allow_future_tokens: true, bias_update_rate: 0.001}, balance: {scope: global_batch, importance_coef: 0.1}'
simple='groups: [{name: full, count: 5}, {name: none, count: 1, computation: zero}, {name: same, count: 1, computation: copy}, {name: fixed, count: 3, computation: constant}]'
check simple 'router: {score: sigmoid, bias_update_rate: 0.001}, capacity_factor: 1.0, isolation: {quarantine: {steps: 2}},
  rules: [{experts: layers.*.experts.fixed, lr_scale: 0.5, clip_norm: 0.1, loss_scale: 1024}, {experts: "layers.0.experts.fixed[1]", optimizer: sgd}]' "$simple"
check simple-experts 'router: {choice: expert, allow_future_tokens: true}' "$simple"

grep -q '"expert_biases":\[\[[^]]*0\.00' deepseek-one/checkpoints/step-00000006/manifest.json || { echo "no biases were learned"; exit 1; }

grep -qE '"expert_thresholds":\[\[0\.[0-9]' experts-one/checkpoints/step-00000006/manifest.json || { echo "no thresholds were saved"; exit 1; }
head -c 20000 text.txt >part.txt
"$CADRE" data prepare part.txt --tokenizer bytes --invalid-utf8 replace -o part >/dev/null
for batch in 1 7; do "$CADRE" eval experts-one --data part --json --batch-size $batch | grep -oE '"loss": *[0-9.]{7}' >eval-$batch.txt; done
cmp eval-1.txt eval-7.txt || { cat eval-*.txt; echo "where experts choose, a token's loss depends on its neighbours"; exit 1; }
"$CADRE" generate simple-experts-four --prompt "Whale" --tokens 8 >generate.log 2>&1 || { cat generate.log; echo "no text where experts choose"; exit 1; }
"$CADRE" checkpoint info simple-four/checkpoints/step-00000006 >info.txt
for tensor in model/layers.0.moe.experts.7.v model/layers.1.moe.experts.9.mix optimizer/layers.0.moe.experts.7.v/exp_avg optimizer/layers.0.moe.experts.8.v/momentum; do
  grep -q "/$tensor " info.txt || { echo "the checkpoint has no $tensor"; exit 1; }
done
"$CADRE" config show config.yaml --experts --set "moe={$simple}" >experts.txt
grep -qE '^0\.\.1 +fixed +7\.\.9 +3 +- +constant ' experts.txt || { cat experts.txt; echo "the layout lacks constant experts"; exit 1; }

# refused TEXT ARGUMENT ...
refused() {
  local text=$1 status=0; shift
  "$CADRE" config check config.yaml "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$text" refused.log || { cat refused.log; echo "wanted: $text"; exit 1; }
}
refused 'moe.router.groups: 3 does not divide the 4 routed experts of layer 0' --set moe.router.groups=3
refused 'moe.router.kept_groups: 1 of 4 groups have 1 experts of layer 0, fewer than its top_k 2' --set moe.router.groups=4
refused 'moe.balance.load_coef' --set moe.balance.load_coef=0.1
refused 'did you mean "sigmoid"?' --set moe.router.score=sigmoyd
refused 'moe.router.choice: expert lets later tokens decide' --set moe.router.choice=expert
refused 'moe.capacity_factor: is given, and with router.choice: expert' --set 'moe.router={choice: expert, allow_future_tokens: true}' --set moe.capacity_factor=1.25
refused 'moe.groups[1].computation: "b" computes, and stands behind' --set 'moe={groups: [{name: a, computation: copy}, {name: b, count: 3}]}'
refused 'moe.isolation.experts: layers.*.experts.a: none of these is a routed expert that computes' \
  --set 'moe={groups: [{name: b, count: 3}, {name: a, computation: copy}], isolation: {experts: layers.*.experts.a}}'
