#!/usr/bin/env bash
# Experts shared out among ranks train like experts on one rank, in losses and gradient norms, also when the ranks do not divide them;
# a checkpoint of any layout is read exactly on any other, and training goes on from it; impossible layouts are refused.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
five=(--set moe.num_experts=5 --set precision.compute=fp64 --set data.seq_length=16 --set run.steps=20 --set checkpoint.every=10)

# same_norms A B STEPS TOLERANCE: like same_losses, of the gradient norms, which must count every expert once.
norms() { sed -E 's/^(.*)"step":([0-9]+)(.*)$/\2 \1\3/; s/^([0-9]+) .*"grad_norm":([0-9.e+-]+).*/\1 \2/' "$1/metrics.jsonl"; }
same_norms() {
  join <(norms "$1" | sort) <(norms "$2" | sort) | awk -v want="$3" -v tolerance="$4" -v what="norms of $1 and $2" '
    { d = ($2 - $3) / $3; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
    END { printf "%s: largest relative difference %.3g over %d steps, allowed %g\n", what, worst, n, tolerance
          exit !(n == want && worst <= tolerance) }'
}

# The layout is in the config; nothing else may differ.
same_but_config() {
  local differences
  differences=$("$CADRE" checkpoint diff "$1" "$2" || true)
  [[ $differences == state.config:* && $(wc -l <<<"$differences") = 1 ]] || { echo "$1 and $2: $differences"; return 1; }
}

train 1 one "${five[@]}"
for layout in "2 2" "4 2" "4 4"; do
  read -r ranks expert <<<"$layout"
  train "$ranks" "dp$ranks-ep$expert" "${five[@]}" --set parallel.expert_parallel="$expert"
  same_losses "dp$ranks-ep$expert" one 20 1e-9
  same_norms "dp$ranks-ep$expert" one 20 1e-9
done

# Read on another layout and written again, without a step in between: the same bits.
at=checkpoints/step-00000010
for layout in "1 1" "2 1" "2 2" "4 4"; do
  read -r ranks expert <<<"$layout"
  copy=copy-dp$ranks-ep$expert
  train "$ranks" "$copy" "${five[@]}" --set parallel.expert_parallel="$expert" --set run.stop_after=10 --resume dp4-ep2/$at
  same_but_config dp4-ep2/$at "$copy/$at"
  train "$ranks" "$copy" "${five[@]}" --set parallel.expert_parallel="$expert" --resume must
  tail -n 10 one/metrics.jsonl >one-end.jsonl
  mkdir -p one-end && mv one-end.jsonl one-end/metrics.jsonl
  same_losses "$copy" one-end 10 1e-9
done

train 2 fp32 --set run.steps=5 --set checkpoint.every=0
train 2 fp32-ep2 --set run.steps=5 --set checkpoint.every=0 --set parallel.expert_parallel=2
same_losses fp32-ep2 fp32 5 1e-5

# refused RANKS MESSAGE [ARGUMENT ...]
refused() {
  local ranks=$1 message=$2 status=0; shift 2
  "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set run.directory=no "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit 2 and: $message; got $status"; exit 1; }
}
refused 4 "parallel.expert_parallel: 3 does not divide data_parallel, 4" --set parallel.expert_parallel=3
refused 4 "parallel.expert_parallel: 4 ranks for 2 experts; wanted at most 2" --set parallel.expert_parallel=4 --set moe.num_experts=2
