#!/usr/bin/env bash
# run.time_limit_seconds: all ranks end after the same step, with status 143 and a checkpoint of it; the same command again goes on from
# there, until the end, which is that of a run without a limit.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
steps=(--set run.steps=100000 --set checkpoint.every=0)

train_until_limit() {  # DIRECTORY RESUME
  expect 143 "$1.log" "$CADRE_RUN" -n 3 "$CADRE" train config.yaml --set "run.directory=$1" "${steps[@]}" \
    --set batch.global_batch_size=6 --set run.time_limit_seconds=3 --resume "$2"
  silent_about "$1.log" "error:"
  says "$1.log" "saving, to be resumed"
  valid "$1/checkpoints"
}
train_until_limit cut never
first=$(steps_done cut)
[ "$(newest cut)" = "cut/checkpoints/step-$(printf %08d "$first")" ] || fail "the last step is not in the newest checkpoint" cut.log
train_until_limit cut must
second=$(steps_done cut)
((first >= 1 && second > first)) || fail "no steps: $first, then $second" cut.log
[ "$(losses cut | cut -d ' ' -f 1)" = "$(seq "$second")" ] || fail "steps are missing or twice in the metrics"

# The limit is no part of what the run computes, and not in its checkpoints.
train 3 whole "${steps[@]}" --set batch.global_batch_size=6 --set "run.stop_after=$second"
identical whole/checkpoints/step-"$(printf %08d "$second")" cut/checkpoints/step-"$(printf %08d "$second")"
same_losses whole cut "$second" 0

# A limit that is over before the first step ends: one step is made at most two times over.
expect 143 short.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=short "${steps[@]}" \
  --set run.time_limit_seconds=1 --set batch.global_batch_size=512
valid short/checkpoints
