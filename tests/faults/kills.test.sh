#!/usr/bin/env bash
# Either rank killed at any moment, while every step is checkpointed: the next run always goes on from a valid checkpoint, and the end
# is that of a run that was never interrupted.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
RANDOM=20
size=(--set "model={hidden_size: 32, num_layers: 2, num_heads: 2, num_kv_heads: 1, ffn_hidden_size: 48}" --set data.seq_length=32)
steps=(--set run.steps=100000 --set checkpoint.every=1 --set checkpoint.keep=2)
kills=0 resumed=0
# The launcher misses a rank that dies while it connects to it; then the other ends the job by the deadline.
export CADRE_TIMEOUT_SECONDS=20
dies() {
  local status=0
  wait "$job" || status=$?
  no_crash cut.log
  if [ "$status" = 5 ]; then says cut.log "not all ranks came up within 20 s"; return; fi
  [ "$status" = 137 ] || fail "the run in cut ended with status $status, wanted 137" cut.log
  ((SECONDS - died <= 10)) || fail "the job took $((SECONDS - died)) s to end"
}
while ((kills < 20)); do
  before=$(newest cut)
  start 2 cut "${size[@]}" "${steps[@]}" --resume "$([ -n "$before" ] && echo must || echo auto)"
  # From anywhere in the start to some steps in; every third time not before a step was made, so that the run gets on.
  ((kills % 3)) || until_true "a step" grep -q "checkpoint cut" cut.log
  sleep "0.$(printf %03d $((RANDOM % 1000)))"
  until_true "rank $((kills % 2))" eval 'victim=$(rank_pid cut $((kills % 2))) && [ -n "$victim" ]'
  kill -9 "$victim"
  kills=$((kills + 1)) died=$SECONDS
  dies
  until_true "the other rank's end" no_ranks cut
  silent_about cut.log skipped
  if grep -qE '[0-9] error: |\] error: ' cut.log; then fail "an error" cut.log; fi
  if grep -q "resumed from" cut.log; then
    resumed=$((resumed + 1))
    says cut.log "resumed from $before "
  fi
done
valid cut/checkpoints
last=$(newest cut) last=$((10#${last##*-}))
echo "$kills kills, $resumed runs resumed, step $last"
((resumed >= 8 && last >= 10)) || fail "too little was resumed to test anything"
end=(--set checkpoint.every=0 --set run.steps=100000 --set "run.stop_after=$((last + 3))")
train 2 cut "${size[@]}" "${end[@]}" --resume must
train 2 whole "${size[@]}" "${end[@]}"
name=$(basename "$(newest whole)")
identical "whole/checkpoints/$name" "cut/checkpoints/$name"
same_losses whole cut $((last + 3)) 0
