#!/usr/bin/env bash
# Validation while training: it changes no parameter, does not depend on ranks, survives a resume, and agrees with `cadre eval`, which
# mpirun shares out among its ranks.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
for part in 0:20000 200000:3001; do
  "$CADRE" data prepare text.txt --tokenizer bytes --invalid-utf8 replace --offset ${part%:*} --length ${part#*:} -o held-${part%:*} >/dev/null
done
held=(--set "data.validation=[held-0, {path: held-200000}]" --set validation.tokens=6000 --set validation.every=7)
last=checkpoints/step-00000040

# points DIRECTORY: a line "STEP LOSS" for each validation.
points() { sed -nE 's/.*"step":([0-9]+).*"validation_loss":([0-9.e+-]+).*/\1 \2/p' "$1/metrics.jsonl"; }
same_points() {
  join <(points "$1" | sort) <(points "$2" | sort) | awk -v want="$3" -v tolerance="$4" -v what="$1 and $2" '
    { d = ($2 - $3) / $3; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
    END { printf "validation of %s: largest relative difference %.3g in %d points, allowed %g\n", what, worst, n, tolerance
          exit !(n == want && worst <= tolerance) }'
}
# only_config_differs A B
only_config_differs() {
  "$CADRE" checkpoint diff "$1" "$2" >diff.txt && { echo "$1 and $2 do not even differ in the config"; exit 1; }
  [ "$(sed 's/:.*//' diff.txt)" = state.config ] || { cut -c1-150 diff.txt; echo "$1 and $2 differ in more than the config"; exit 1; }
}

# With balance by the previous step's fractions, capacity and recompute, all of which an evaluation could disturb.
for more in "moe.balance.scope=micro_batch" "recompute=full" "moe={num_experts: 4, capacity_factor: 1.0, balance: {scope: global_batch}}"; do
  rm -rf plain held
  train 2 plain --set checkpoint.every=0 --set "$more"
  train 2 held --set checkpoint.every=0 --set "$more" "${held[@]}"
  only_config_differs plain/$last held/$last
  same_losses held plain 40 0
  [ "$(points held | sed 's/ .*//' | tr '\n' ' ')" = "7 14 21 28 35 40 " ] || { points held; echo "validation at other steps"; exit 1; }
  [ -z "$(points plain)" ]
  diff <(grep -o '"memory_peak":[0-9]*' plain/metrics.jsonl) <(grep -o '"memory_peak":[0-9]*' held/metrics.jsonl)
done
grep -q '>validation<' held/loss.svg || { echo "no validation in the plot"; exit 1; }
grep -q 'step 7/40 .*validation .* bits per byte' held/log.txt || { echo "no validation in the log"; exit 1; }

# Interrupted between two validations.
train 2 cut "${held[@]}" --set run.stop_after=17
train 1 cut "${held[@]}" --set run.stop_after=21
train 2 whole "${held[@]}" --set run.stop_after=21
same_points cut whole 3 1e-6
[ "$(points cut | wc -l)" = 3 ] || { points cut; echo "a validation is there twice"; exit 1; }

# The same parameters on other ranks; only at the end; all tokens; against the command.
for ranks in 1 2 4; do train $ranks fp64-$ranks "${held[@]}" --set precision.compute=fp64 --set data.seq_length=16 --set run.steps=14; done
same_points fp64-2 fp64-1 2 1e-9
same_points fp64-4 fp64-1 2 1e-9
train 2 end --set "data.validation=[held-0]" --set validation.tokens=0 --set validation.every=0
[ "$(points end | sed 's/ .*//')" = 40 ] || { points end; echo "validation before the end"; exit 1; }

# value KEY FILE: of one JSON object.
value() { sed -E "s/.*\"$1\":([0-9.e+-]+).*/\1/" "$2"; }
near() { awk -v a="$1" -v b="$2" -v tolerance="$3" 'BEGIN { d = (a - b) / b; if (d < 0) d = -d; exit !(d <= tolerance) }'; }
# eval_on_ranks RUN TOLERANCE
eval_on_ranks() {
  for ranks in 1 2 3; do
    "$CADRE_RUN" -n $ranks "$CADRE" eval "$1" --data held-0 --json --batch-size $((5 - ranks)) >eval-$ranks.json
    [ "$(wc -l <eval-$ranks.json)" = 1 ] || { cat eval-$ranks.json; echo "printed more than once on $ranks ranks"; exit 1; }
    near "$(value loss eval-$ranks.json)" "$(value loss eval-1.json)" "$2" || { cat eval-?.json; echo "another loss on $ranks ranks"; exit 1; }
    [ "$(value tokens eval-$ranks.json)" = "$(value tokens eval-1.json)" ]
  done
}
eval_on_ranks end 1e-6
near "$(value loss eval-2.json)" "$(points end | sed 's/.* //')" 1e-12 || { echo "cadre eval disagrees with the validation"; exit 1; }
near "$(value bits_per_byte eval-2.json)" "$(sed -nE 's/.*"validation_bits_per_byte":([0-9.e+-]+).*/\1/p' end/metrics.jsonl)" 1e-12
eval_on_ranks fp64-1 1e-12
