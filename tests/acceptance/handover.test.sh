#!/usr/bin/env bash
# A run is handed from layout to layout, in an order drawn at random from a table: each reads the checkpoint of the one before exactly
# (written again without a step in between it has the same bits) and trains on like one rank that was never interrupted. So does a run that
# loses a rank and goes on with fewer.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
common=(--set moe.num_experts=5 --set precision.compute=fp64 --set data.seq_length=16 --set run.steps=100 --set checkpoint.every=0
  --set "batch={global_batch_size: 12, micro_batch_size: 1}")
steps=3  # of each layout

# Name, ranks, arguments.
layouts='
dp1 1
dp3 3 parallel.zero=2
dp4 4 parallel.zero=0
dp2-ep2 2 parallel.expert_parallel=2
dp3-ep3 3 parallel.expert_parallel=3
dp4-ep2 4 parallel.expert_parallel=2 parallel.zero=2
dp4-ep4 4 parallel.expert_parallel=4
pp2 2 parallel.pipeline_parallel=2
dp2-ep2-pp2 4 parallel.expert_parallel=2 parallel.pipeline_parallel=2 parallel.schedule=zero_bubble
dp2-ep2-rounds 2 parallel.expert_parallel=2 parallel.max_dispatch_tokens=9
'
# of NAME: sets `ranks` and `arguments`.
of() {
  local line setting words
  line=$(grep "^$1 " <<<"$layouts")
  read -ra words <<<"$line"
  ranks=${words[1]} arguments=("${common[@]}")
  for setting in "${words[@]:2}"; do arguments+=(--set "$setting"); done
}

# The layout is in the config that a checkpoint carries; nothing else may differ.
same_but_config() {
  local differences
  differences=$("$CADRE" checkpoint diff "$1" "$2" || true)
  [[ -z $differences ]] || [[ $differences == state.config:* && $(wc -l <<<"$differences") = 1 ]] || fail "$1 and $2: $differences"
}
at() { printf "checkpoints/step-%08d" "$1"; }

mapfile -t order < <(cut -d ' ' -f 1 <<<"$layouts" | sed '/^$/d' | sort --random-source=<(yes "${CADRE_TEST_SEED:-1}") -R)
echo "order: ${order[*]}"
step=0 before=""
for name in "${order[@]}"; do
  of "$name"
  mkdir -p chain
  if [ -n "$before" ]; then
    train "$ranks" "copy-$name" "${arguments[@]}" --set "run.stop_after=$step" --resume "chain/$(at $step)"
    same_but_config "chain/$(at $step)" "copy-$name/$(at $step)"
  fi
  step=$((step + steps)) before=$name
  train "$ranks" chain "${arguments[@]}" --set "run.stop_after=$step" --resume auto
done

# A rank is lost; three of four go on.
of dp4-ep2
start 4 chain "${arguments[@]}" --set checkpoint.every=1 --resume must
until_true "steps" has_step chain $((step + 2))
kill -9 "$(rank_pid chain 3)"
ends 137 chain
until_true "the other ranks' end" no_ranks chain
lost=$(newest chain) lost=$((10#${lost##*-}))
of dp3-ep3
train "$ranks" chain "${arguments[@]}" --set "run.stop_after=$((lost + steps))" --resume must
step=$((lost + steps))

of dp1
train 1 one "${arguments[@]}" --set "run.stop_after=$step"
same_losses chain one "$step" 1e-9
[ "$(losses chain | cut -d ' ' -f 1)" = "$(seq "$step")" ] || fail "steps are missing or twice in the metrics"
