#!/usr/bin/env bash
# The run's directory cannot be made, is read-only, vanishes, or turns into a file: a clear error, no hang, and nothing lost.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
in_own_mounts "$0"
make_tokens; make_config
# persist COMMAND ...: until it works, because a run writes there at the same time.
persist() {
  for _ in $(seq 300); do "$@" 2>/dev/null && return; sleep 0.02; done
  "$@"
}
long=(--set run.steps=100000 --set checkpoint.every=10)

echo >file
expect 4 file.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=file/run
one_error file.log file/run "Not a directory"

# The folder of checkpoints turns into a file; later it is back.
start 2 moved "${long[@]}"
until_true "a checkpoint" eval '[ -n "$(newest moved)" ]'
mv moved/checkpoints aside; echo >moved/checkpoints
until_true "an error" grep -q "training goes on" moved.log
at=$(steps_done moved)
until_true "more steps" has_step moved $((at + 15))
valid aside
stop
ends 4 moved
grep -v "training goes on" moved.log >last.log
grep -vE "warning" last.log >errors.log
one_error errors.log "not saved" moved/checkpoints
rm moved/checkpoints; mv aside moved/checkpoints
train 2 moved "${long[@]}" --set "run.stop_after=$(($(basename "$(newest moved)" | grep -oE '[1-9][0-9]*$') + 5))" --resume must

# Everything is deleted under a running run: it makes the folder anew for its next checkpoint.
start 2 deleted "${long[@]}"
until_true "a checkpoint" eval '[ -n "$(newest deleted)" ]'
persist rm -rf deleted
until_true "a checkpoint in a new folder" eval '[ -n "$(newest deleted)" ]'
stop
ends 143 deleted
valid deleted/checkpoints

$can_mount || exit 0
start 2 sealed "${long[@]}"
until_true "a checkpoint" eval '[ -n "$(newest sealed)" ]'
mount --bind sealed sealed; persist mount -o remount,bind,ro sealed
until_true "an error" grep -q "training goes on" sealed.log
grep -q "Read-only file system" sealed.log || fail "an unclear error" sealed.log
at=$(basename "$(newest sealed)")
persist umount sealed
until_true "a newer checkpoint" eval '[[ "$(basename "$(newest sealed)")" > "$at" ]]'
stop
ends 143 sealed
valid sealed/checkpoints
mount --bind sealed sealed; mount -o remount,bind,ro sealed
expect 4 readonly.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml "${long[@]}" --set run.directory=sealed --resume must
grep -v warning readonly.log >errors.log
one_error errors.log sealed "Read-only file system"
