#!/usr/bin/env bash
# Any layout of ranks trains like one rank, in losses, held-out losses and gradient norms, also when ranks divide neither experts nor
# layers; impossible layouts are refused. (How a run goes from layout to layout: handover.test.sh.)
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
small=(--set moe.num_experts=5 --set model.num_layers=3 --set precision.compute=fp64 --set data.seq_length=16 --set run.steps=12
       --set checkpoint.every=6 --set 'data.validation=[tokens]' --set validation.every=6 --set validation.tokens=512)

# A layout is a name, its ranks and its settings.
layouts="
dp2-ep2       2 expert_parallel=2 zero=0
dp4-ep2       4 expert_parallel=2
dp4-ep4       4 expert_parallel=4
pp2           2 pipeline_parallel=2 zero=2 stage_costs=measured
pp3-zb        3 pipeline_parallel=3 schedule=zero_bubble
dp2-pp2-gpipe 4 pipeline_parallel=2 schedule=gpipe layers_per_stage=[1,2]
dp2-ep2-pp2-i 4 zero=2 pipeline_parallel=2 expert_parallel=2 schedule=interleaved stages_per_rank=2 layers_per_stage=[1,1,1,0]
"
# train_on LAYOUT DIRECTORY [ARGUMENT ...]
train_on() {
  local name ranks settings layout=$1 directory=$2; shift 2
  read -r name ranks settings < <(grep "^$layout " <<<"one 1$layouts")
  local arguments=()
  for setting in $settings; do arguments+=(--set "parallel.$setting"); done
  train "$ranks" "$directory" "${small[@]}" "${arguments[@]}" "$@"
}
names=$(awk 'NF > 0 {print $1}' <<<"$layouts")

# same_values KEY A B STEPS TOLERANCE: as same_losses, of any number in the metrics.
values() { sed -nE "s/^(.*)\"step\":([0-9]+)(.*)$/\2 \1\3/; s/^([0-9]+) .*\"$1\":([0-9.e+-]+).*/\1 \2/p" "$2/metrics.jsonl"; }
same_values() {
  join <(values "$1" "$2" | sort) <(values "$1" "$3" | sort) | awk -v want="$4" -v tolerance="$5" -v what="$1 of $2 and $3" '
    { d = ($2 - $3) / $3; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
    END { printf "%s: largest relative difference %.3g over %d steps, allowed %g\n", what, worst, n, tolerance
          exit !(n == want && worst <= tolerance) }'
}

train 1 one "${small[@]}"
for name in $names; do
  train_on "$name" "$name"
  same_losses "$name" one 12 1e-9
  same_values grad_norm "$name" one 12 1e-9
  same_values validation_loss "$name" one 2 1e-9
done

# More ranks than experts: replicas.
train 1 three "${small[@]}" --set moe.num_experts=3
train 4 three-ep4 "${small[@]}" --set moe.num_experts=3 --set parallel.expert_parallel=4
same_losses three-ep4 three 12 1e-9
same_values grad_norm three-ep4 three 12 1e-9

train 2 fp32 --set run.steps=5 --set checkpoint.every=0
for setting in expert_parallel=2 pipeline_parallel=2; do
  train 2 fp32-$setting --set run.steps=5 --set checkpoint.every=0 --set parallel.$setting
  same_losses fp32-$setting fp32 5 1e-5
done

# refused RANKS MESSAGE [ARGUMENT ...]
refused() {
  local ranks=$1 message=$2 status=0; shift 2
  "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set run.directory=no "$@" >refused.log 2>&1 || status=$?
  [ "$status" = 2 ] && grep -qF "$message" refused.log || { cat refused.log; echo "wanted exit 2 and: $message; got $status"; exit 1; }
}
refused 4 "parallel.expert_parallel: 3 does not divide data_parallel, 4" --set parallel.expert_parallel=3
refused 4 "parallel.expert_parallel: 4 ranks for the experts of a dense model; wanted 1" --set parallel.expert_parallel=4 \
  --set moe.num_experts=0
refused 4 "parallel.pipeline_parallel: 3 stages for 4 ranks; wanted a divisor, such as 2 or 4" --set parallel.pipeline_parallel=3
refused 4 "parallel.pipeline_parallel: 4 x 1 stages for 2 layers; wanted at most 2 stages" --set parallel.pipeline_parallel=4
refused 2 "parallel.layers_per_stage: the sum is 3, but the model has 2 layers" --set parallel.pipeline_parallel=2 --set 'parallel.layers_per_stage=[1,2]'
refused 2 "stages_per_rank: 2 with schedule 1f1b; wanted 1, or schedule: interleaved" --set parallel.pipeline_parallel=2 --set parallel.stages_per_rank=2
