#!/usr/bin/env bash
# A checkpoint that is cut, flipped, incomplete, swapped or misnamed is refused and named; the older valid one is used. With none valid
# the run ends with status 4, unless it is told to start anew.
# Timeout: 400
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
train 2 made --set run.steps=10 --set checkpoint.every=5
shard=shard-00000-of-00002.h5 other=shard-00001-of-00002.h5

# flip FILE BYTE: inverts one bit of it.
flip() {
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "\\x$(printf %02x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
size() { stat -c %s "$1"; }
cut_one() { truncate -s -1 "$1"; }
cut_half() { truncate -s $(($(size "$1") / 2)) "$1"; }
cut_all() { truncate -s 0 "$1"; }
flip_front() { flip "$1" 9; }
flip_middle() { flip "$1" $(($(size "$1") / 2)); }
flip_late() { flip "$1" $(($(size "$1") - 20)); }
drop() { rm "$1"; }
add() { cp "$1" "$(dirname "$1")/shard-00002-of-00003.h5"; }
swap() { mv "$1" x; mv "$(dirname "$1")/$other" "$1"; mv x "$(dirname "$1")/$other"; }
of_other_step() { cp "$(dirname "$1")/../step-00000005/$(basename "$1")" "$1"; }

fresh() { rm -rf run; cp -r made run; }
# resumes FILE WORD: the checkpoint of step 10 is passed over because of FILE; that of step 5 is used.
resumes() {
  expect 0 run.log "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set run.directory=run --set run.steps=10 \
    --set run.stop_after=6 --resume must
  grep "skipped" run.log | grep -F step-00000010 | grep -qF "$1" || fail "does not say that step 10 was passed over for $1" run.log
  [ "$(grep -c skipped run.log)" = 1 ] || fail "said more than once" run.log
  says run.log "resumed from run/checkpoints/step-00000005"
  [ -d run/checkpoints/step-00000006 ] || fail "did not go on" run.log
}
ranks=1
for damage in cut_one cut_half cut_all flip_front flip_middle flip_late drop of_other_step; do
  for file in $shard manifest.json; do
    fresh; $damage "run/checkpoints/step-00000010/$file"
    resumes "$file"
  done
done
ranks=2
fresh; add run/checkpoints/step-00000010/$shard; resumes shard-00002-of-00003.h5
fresh; swap run/checkpoints/step-00000010/$shard; resumes $shard
fresh; flip_middle run/checkpoints/step-00000010/$other; resumes "rank 1: $other"

# What resumed from step 5 is what was never damaged.
train 2 run --set run.steps=10 --set checkpoint.every=5 --resume run/checkpoints/step-00000006
identical made/checkpoints/step-00000010 run/checkpoints/step-00000010

# A complete copy under a temporary name, or under another step's name, does not count.
fresh; cp -r run/checkpoints/step-00000010 run/checkpoints/step-00000015.tmp
expect 0 run.log "$CADRE" train config.yaml --set run.directory=run --set run.steps=11 --resume must
says run.log "resumed from run/checkpoints/step-00000010"; silent_about run.log skipped
fresh; mv run/checkpoints/step-00000010 run/checkpoints/step-00000012
expect 0 run.log "$CADRE" train config.yaml --set run.directory=run --set run.steps=6 --resume must
says run.log "resumed from run/checkpoints/step-00000005"; says run.log "step-00000012"

# None is valid.
fresh; for step in 5 10; do cut_one run/checkpoints/step-000000"$(printf %02d $step)"/$shard; done
cp -r run hopeless
for policy in must auto hopeless/checkpoints/step-00000010; do
  expect 4 run.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=run --resume $policy
  one_error run.log "no valid checkpoint" $shard
  [[ $policy == */* ]] || says run.log "--resume never"  # a checkpoint that was named is not passed over
  diff -r run hopeless || fail "the damaged checkpoints were touched"
done
expect 0 run.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=run --set run.steps=3 --resume never
valid run/checkpoints/step-00000003

# None ever existed; a save that died does not count as one.
expect 4 run.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=none --resume must
one_error run.log none/checkpoints "no valid checkpoint"
mkdir -p none/checkpoints/step-00000003.tmp; echo >none/checkpoints/step-00000003.tmp/$shard
expect 0 run.log "$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=none --set run.steps=3 --resume auto
valid none/checkpoints/step-00000003
