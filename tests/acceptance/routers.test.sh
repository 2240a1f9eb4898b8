#!/usr/bin/env bash
# Every kind of router, in training: four ranks, stopped half-way and resumed, have the bits of one rank that was not; biases that balance experts
# are learned and saved; a router that a layout of experts cannot have is refused with its key.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
common=(--set parallel.reproducible=true --set run.steps=6 --set checkpoint.every=3)
four=(--set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2)

# check NAME MOE: a router and its losses, as a mapping over the config's `moe`.
check() {
  local moe="moe={num_experts: 8, top_k: 2, shared_experts: 1, $2}"
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

grep -q '"expert_biases":\[\[[^]]*0\.00' deepseek-one/checkpoints/step-00000006/manifest.json || { echo "no biases were learned"; exit 1; }

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
