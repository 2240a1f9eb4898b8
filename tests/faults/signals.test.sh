#!/usr/bin/env bash
# A signal, to the launcher or to a rank, early or late: all ranks agree, save, and end with status 143; resuming gives what an
# uninterrupted run gives, every step made exactly once.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
steps=(--set run.steps=100000 --set checkpoint.every=50)

to_launcher_USR1() { stop; }
to_launcher_TERM() { kill -TERM "$(launcher)"; }
to_rank_TERM() { kill -TERM "$(rank_pid "$1" 1)"; }
twice() { stop; sleep 0.05; stop 2>/dev/null || true; }
furthest=0
for way in to_launcher_USR1 to_launcher_TERM to_rank_TERM twice; do
  start 2 $way "${steps[@]}"
  until_true "steps" has_step $way 12
  $way $way
  ends 143 $way
  silent_about $way.log "error:"
  valid $way/checkpoints
  stopped=$(steps_done $way)
  [ "$(newest $way)" = "$way/checkpoints/step-$(printf %08d "$stopped")" ] || fail "the last step is not in the newest checkpoint" $way.log
  ((furthest > stopped + 4)) || furthest=$((stopped + 4))
done
# As soon as the ranks live: before there is anything to save.
start 2 early "${steps[@]}"
until_true "ranks" eval '[ -n "$(rank_pid early 1)" ]'
sleep 0.1
stop
ends 143 early
if [ -n "$(newest early)" ]; then valid early/checkpoints; fi

end=(--set run.steps=100000 --set checkpoint.every=0 --set "run.stop_after=$furthest")
train 2 whole "${end[@]}"
name=step-$(printf %08d "$furthest")
for way in to_launcher_USR1 to_launcher_TERM to_rank_TERM twice; do
  train 2 $way "${end[@]}" --resume must
  identical whole/checkpoints/"$name" $way/checkpoints/"$name"
  [ "$(losses $way | cut -d ' ' -f 1)" = "$(seq "$furthest")" ] || fail "steps are missing or twice in the metrics of $way"
  same_losses whole $way "$furthest" 0
done
