#!/usr/bin/env bash
# A full disk, on one rank or on all, at the start, in a shard, or at the manifest: training goes on, the previous checkpoint stays, the
# error names the file; the last save failing is exit status 4.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
in_own_mounts "$0"
make_tokens; make_config
long=(--set run.steps=100000 --set checkpoint.every=10)

# No file of one rank may grow beyond 1000 bytes: what a full disk is to that rank alone.
start 2 limited "${long[@]}"
until_true "a checkpoint" eval '[ -n "$(newest limited)" ]'
prlimit --pid "$(rank_pid limited 1)" --fsize=1000:unlimited
until_true "an error" grep -q "training goes on" limited.log
kept=$(newest limited)
valid "$kept"
[[ $(grep -m 1 "training goes on" limited.log) == *"rank 1: "*".h5: cannot write"*"File too large"* ]] ||
  fail "an unclear error" limited.log
at=$(steps_done limited)
until_true "more steps" has_step limited $((at + 15))
prlimit --pid "$(rank_pid limited 1)" --fsize=unlimited
until_true "a newer checkpoint" eval '[[ "$(newest limited)" > "$kept" ]]'
prlimit --pid "$(rank_pid limited 0)" --fsize=1000:unlimited
before=$(grep -c "training goes on" limited.log)
until_true "another error" eval '(($(grep -c "training goes on" limited.log) > before))'
stop
ends 4 limited
grep -v "training goes on" limited.log >last.log
one_error last.log "not saved: rank 0: "
valid limited/checkpoints
[ -z "$(find limited/checkpoints -name '*.tmp')" ] || fail "a half-written checkpoint was left"
train 2 limited "${long[@]}" --set "run.stop_after=$(($(basename "$(newest limited)" | grep -oE '[1-9][0-9]*$') + 5))" --resume must

# An event that has no room for its checkpoint is left out; training goes on, and the next one happens.
start 2 edited --set run.steps=100000 --set checkpoint.every=0 \
  --set 'moe.events=[{when: step % 10 == 5, do: reinitialise, experts: "layers.0.experts.*", where: load_rank == 0}]'
until_true "an event" grep -q "begins anew" edited.log
prlimit --pid "$(rank_pid edited 1)" --fsize=1000:unlimited
until_true "an event left out" grep -q "reinitialise: not done: .*cannot write" edited.log
at=$(steps_done edited)
until_true "more steps" has_step edited $((at + 15))
prlimit --pid "$(rank_pid edited 1)" --fsize=unlimited
before=$(grep -c "begins anew" edited.log)
until_true "another event" eval '(($(grep -c "begins anew" edited.log) > before))'
stop
ends 143 edited
[ ! -e edited/checkpoints.edit ] || fail "an event's checkpoint was left" edited.log

$can_mount || exit 0
train 2 measured --set run.steps=5
pages() { find "$1" -type f -printf '%s\n' | awk '{ n += int(($1 + 4095) / 4096) } END { print n + 0 }'; }
whole=$(pages measured/checkpoints) manifest=$(pages measured/checkpoints/step-00000005/manifest.json)
sinks=(--set monitor.metrics=false --set monitor.tensorboard=false)
disk() { mkdir "$1"; mount -t tmpfs -o "size=$(($2 * 4096))" none "$1"; }

# At the start: not even the run's directory fits.
mkdir start; mount -t tmpfs -o nr_inodes=1 none start
expect 4 start.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=start/run
one_error start.log start/run "No space left"

# In the middle: one checkpoint fits, a second does not.
disk middle $((whole + whole / 2))
expect 4 middle.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml "${sinks[@]}" --set run.directory=middle/run --set checkpoint.every=10
grep -F "training goes on" middle.log | grep -F ".h5" | grep -qF "No space left" || fail "an unclear error" middle.log
grep -v "training goes on" middle.log >last.log
one_error last.log "step 40 not saved" "No space left"
[ "$(ls middle/run/checkpoints)" = step-00000010 ] || fail "wrong checkpoints: $(ls middle/run/checkpoints)"
valid middle/run/checkpoints

# At the end: the shards fit, the manifest does not.
disk close $((whole - (manifest + 1) / 2 + 4))
expect 4 close.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml "${sinks[@]}" --set run.directory=close/run --set run.steps=5
one_error close.log manifest.json "No space left"
[ -z "$(ls close/run/checkpoints)" ] || fail "a checkpoint without its manifest was left"
# Room is made: the same command succeeds.
mount -o remount,size=64m close
train 2 close/run "${sinks[@]}" --set run.steps=5
valid close/run/checkpoints
