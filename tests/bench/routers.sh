#!/usr/bin/env bash
# Routers and balance losses side by side on real text: 16 experts, top-2, everything else alike. For each, held-out bits per byte, over the
# last 100 steps the share of experts that get more than half of a fair share (of the worst layer) and the Jensen-Shannon divergence of loads
# from uniform (mean over layers; bits), and tokens per second (median step, over that of the first router in the list).
# Usage: tests/bench/routers.sh [--steps N] [--ranks N] [--only NAME] [--seed N]   (launch/quickstart has prepared its text)
set -euo pipefail
steps=400 ranks=2 only= seed=1
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=$2; shift 2 ;;
    --ranks) ranks=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --seed) seed=$2; shift 2 ;;
    *) echo "routers.sh: unknown argument '$1'; see its head" >&2; exit 2 ;;
  esac
done
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
[ -f "$root/runs/data/gcide.model" ] || { echo "routers.sh: no runs/data/gcide.model; launch/quickstart prepares it" >&2; exit 3; }
cd "$(mktemp -d)"
cat >config.yaml <<YAML
run: {directory: run, seed: $seed, steps: $steps}
data:
  tokenizer: {kind: sentencepiece, path: $root/runs/data/gcide.model}
  train: [{path: $root/runs/data/gcide-train}]
  validation: [{path: $root/runs/data/gcide-held-out}]
  seq_length: 128
model: {hidden_size: 128, num_layers: 4, num_heads: 4, qk_norm: true}
moe: {num_experts: 16, top_k: 2, ffn_hidden_size: 128, balance: {aux_loss_coef: 0, z_loss_coef: 0.001}}
batch: {global_batch_size: 16, micro_batch_size: 8}
optimizer: {lr: 2e-3, schedule: {kind: cosine, warmup_steps: 40, min_lr_ratio: 0.05}}
checkpoint: {every: 0}
validation: {every: 0, tokens: 64Ki}
YAML

# loads: from the last 100 steps, the least utilisation of a layer and the mean divergence.
loads() {
  tail -n 100 "$1/metrics.jsonl" | awk '
    { rest = $0
      while (match(rest, /"layer":[0-9]+,/)) {
        layer = substr(rest, RSTART + 8, RLENGTH - 9); rest = substr(rest, RSTART + RLENGTH)
        if (!match(rest, /"tokens":\[[0-9,]*\]/)) break
        n = split(substr(rest, RSTART + 10, RLENGTH - 11), t, ","); count[layer] = n
        for (e = 1; e <= n; e++) { sum[layer, e] += t[e]; all[layer] += t[e] }
      } }
    function plog(p, q) { return p > 0 ? p * log(p / q) / log(2) : 0 }
    END {
      least = 1
      for (l in count) {
        n = count[l]; used = 0; d = 0
        for (e = 1; e <= n; e++) {
          p = sum[l, e] / all[l]; m = (p + 1 / n) / 2; used += p > 0.5 / n
          d += (plog(p, m) + plog(1 / n, m)) / 2
        }
        if (used / n < least) least = used / n
        divergence += d; layers++
      }
      printf "%.1f%% %.4f\n", 100 * least, divergence / layers
    }'
}
speed() { grep -oE '"tokens_per_second":[0-9.e+]+' "$1/metrics.jsonl" | cut -d: -f2 | tail -n +10 | sort -g | awk '{ r[NR] = $1 } END { print r[int((NR + 1) / 2)] }'; }
bits() { grep -oE '"validation_bits_per_byte":[0-9.]+' "$1/metrics.jsonl" | tail -n 1 | cut -d: -f2; }

first= number=0
printf '%-44s %14s %12s %11s %9s\n' router 'bits per byte' utilisation divergence speed
while IFS='|' read -r name settings; do
  name=$(echo "$name" | xargs)
  number=$((number + 1))
  run=run-$number
  [ -n "$name" ] || continue
  if [ -n "$only" ] && [ "$only" != "$name" ]; then continue; fi
  arguments=(--set "run.directory=$run")
  for setting in $settings; do arguments+=(--set "moe.$setting"); done
  "$root/launch/run" -n "$ranks" "$root/build/cadre" train config.yaml "${arguments[@]}" >"$run.log" 2>&1 </dev/null || { tail -n 3 "$run.log"; exit 1; }
  read -r utilisation divergence < <(loads "$run")
  tokens=$(speed "$run")
  first=${first:-$tokens}
  printf '%-44s %14.4f %12s %11s %9.3f\n' "$name" "$(bits "$run")" "$utilisation" "$divergence" "$(awk -v a="$tokens" -v b="$first" 'BEGIN { print a / b }')"
done <<'ROUTERS'
softmax, no balance                          |
softmax, Switch loss                         | balance.aux_loss_coef=0.01
softmax, Switch loss of the global batch     | balance.aux_loss_coef=0.01 balance.scope=global_batch
softmax, importance                          | balance.importance_coef=0.01
softmax, hinge                               | balance.hinge_coef=0.01
softmax, router entropy                      | balance.entropy_coef=-0.01
softmax, biases                              | router.bias_update_rate=0.01
sigmoid, biases (DeepSeek-V3)                | router.score=sigmoid router.bias_update_rate=0.01
noisy top-k, load and importance             | router.noise=true balance.load_coef=0.01 balance.importance_coef=0.01
top-1 with jitter, Switch loss (Switch)      | top_k=1 ffn_hidden_size=256 router.renormalise=false router.jitter=0.01 balance.aux_loss_coef=0.01
4 groups, 2 kept, Switch loss                | router.groups=4 router.kept_groups=2 balance.aux_loss_coef=0.01
top-p 0.6 of at most 4, Switch loss          | top_k=4 router.choice=top_p router.top_p=0.6 balance.aux_loss_coef=0.01
two levels, Switch loss                      | router.hierarchical=true router.groups=4 router.kept_groups=4 balance.aux_loss_coef=0.01
keys and queries, Switch loss                | router.key_size=32 balance.aux_loss_coef=0.01
experts choose (sees future tokens)          | router.choice=expert router.allow_future_tokens=true
random                                       | router.choice=random
forced balance                               | router.choice=balanced
ROUTERS
