#!/usr/bin/env bash
# 40 steps in one run, and 20 steps, kill -9 of either rank in the midst of a step, and resume to 40, give identical checkpoints; a
# killed rank ends the job within 10 seconds, and each step is in the metrics exactly once.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
slow=(--set batch.global_batch_size=32)  # so that there is time to kill between steps 20 and 40
train 2 whole "${slow[@]}"

for rank in 0 1; do
  cut=cut$rank
  start 2 $cut "${slow[@]}"
  until_true "rank $rank" eval 'victim=$(rank_pid $cut $rank) && [ -n "$victim" ]'  # asked anew, it may not be found while it starts
  until_true "step 20" test -d $cut/checkpoints/step-00000020
  kill -9 "$victim"
  killed=$SECONDS
  ends 137 $cut
  ((SECONDS - killed <= 10)) || fail "the job took $((SECONDS - killed)) s to end"
  until_true "the other rank's end" no_ranks $cut
  [ ! -d $cut/checkpoints/step-00000040 ] || fail "killed too late to test anything"

  train 2 $cut "${slow[@]}" --resume must
  identical whole/checkpoints/step-00000040 $cut/checkpoints/step-00000040
  steps=$(losses $cut | cut -d ' ' -f 1 | tr '\n' ' ')
  [ "$steps" = "$(seq -s ' ' 40) " ] || fail "steps in the metrics: $steps"
  same_losses whole $cut 40 0
done
