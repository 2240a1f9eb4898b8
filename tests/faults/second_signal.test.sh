#!/usr/bin/env bash
# More signals while the last checkpoint is written. A second request to save and stop changes nothing: the save completes. A second
# Ctrl-C, or SIGTERM to a bare mpirun, kills the ranks: the save is discarded or complete, never half there, and the run resumes.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
# Large enough that writing takes a while.
size=(--set "model={hidden_size: 256, num_layers: 4, num_heads: 4, num_kv_heads: 2, ffn_hidden_size: 512}" --set data.seq_length=16)
steps=(--set run.steps=100000 --set checkpoint.every=0)

# The step whose checkpoint is being written in DIRECTORY; nothing when none is.
unfinished() { { find "$1/checkpoints" -maxdepth 1 -name "step-*.tmp" 2>/dev/null || true; } | sort | tail -n 1; }

# held DIRECTORY: a run that resumed from step 2 and was asked to stop, and whose rank 1 is stopped amid the save that follows, as `victim`.
held() {
  local attempt
  for attempt in 1 2 3 4 5 6; do
    rm -rf "$1"
    train 2 "$1" "${size[@]}" "${steps[@]}" --set run.stop_after=2
    start 2 "$1" "${size[@]}" "${steps[@]}" --resume must
    until_true "steps" has_step "$1" 4
    victim=$(rank_pid "$1" 1)
    stop
    until [ -n "$(unfinished "$1")" ] || ! kill -0 "$job" 2>/dev/null; do :; done
    kill -STOP "$victim" 2>/dev/null || true
    if [ -n "$(unfinished "$1")" ]; then return; fi
    kill -CONT "$victim" 2>/dev/null || true
    wait "$job" || true
  done
  fail "the save was never met" "$1.log"
}

held again
saved=$(unfinished again)
stop
kill -TERM "$(rank_pid again 0)"
sleep 0.2
kill -CONT "$victim"
ends 143 again
silent_about again.log "error:"
[ "$(newest again)" = "${saved%.tmp}" ] || fail "the save that was under way, $saved, is not the newest checkpoint" again.log
[ -z "$(unfinished again)" ] || fail "$(unfinished again) was left"
valid again/checkpoints

held interrupted
before=$(newest interrupted)
kill -INT "$(launcher)"
sleep 0.1
kill -INT "$(launcher)"
status=0; wait "$job" || status=$?
[ "$status" != 0 ] || fail "status 0 of an interrupted run" interrupted.log
no_crash interrupted.log
until_true "the ranks' end" no_ranks interrupted
after=$(newest interrupted)
[ "$after" = "$before" ] || [[ $after > $before ]] || fail "the newest checkpoint was $before and is $after"
valid "$after"

# Either goes on exactly where its newest checkpoint is.
for run in again interrupted; do
  last=$(newest $run) last=$((10#${last##*-}))
  end=("${size[@]}" --set run.steps=100000 --set checkpoint.every=0 --set "run.stop_after=$((last + 2))")
  train 2 $run "${end[@]}" --resume must
  says $run.log "resumed from"
  [ -d whole ] || train 2 whole "${end[@]}"
  name=step-$(printf %08d $((last + 2)))
  [ -d whole/checkpoints/"$name" ] || { rm -rf whole; train 2 whole "${end[@]}"; }
  identical whole/checkpoints/"$name" $run/checkpoints/"$name"
  [ "$(losses $run | cut -d ' ' -f 1)" = "$(seq $((last + 2)))" ] || fail "steps are missing or twice in the metrics of $run"
done
