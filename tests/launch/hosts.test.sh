#!/usr/bin/env bash
# Four ranks on two hosts that share only files and a network: the program says where they run, gets the launcher's CADRE_* variables, and
# trains to what four ranks of one machine get, bit for bit, through a signal, a killed rank and a host that fails; of a hang it tells for
# the ranks of both hosts.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/launch/hosts.sh"
on_own_network "$0"
make_tokens; make_config
run=(--set run.steps=40 --set checkpoint.every=4 --set batch.global_batch_size=32 --set device.threads=1)
train 4 whole "${run[@]}"
one_step=(--set run.steps=1 --set checkpoint.every=0)
train 2 here "${one_step[@]}"
add_host host-a 2
add_host host-b 3
printf 'host-a slots=2\nhost-b slots=2\n' >hostfile
printf '#!/bin/sh\nexec "%s" --hostfile hostfile --mca btl self,tcp "$@"\n' "$CADRE_RUN" >on_hosts
chmod +x on_hosts
CADRE_RUN=$PWD/on_hosts

# What a rank gets.
CADRE_FORWARDED="two words" "$CADRE_RUN" -n 4 bash -c 'echo "$HOSTNAME $OMPI_COMM_WORLD_RANK $CADRE_FORWARDED $TMPDIR"' | sort >ranks
diff ranks - <<EOF || fail "that is not what ranks got"
host-a 0 two words $PWD/scratch
host-a 1 two words $PWD/scratch
host-b 2 two words $PWD/scratch
host-b 3 two words $PWD/scratch
EOF

# Where they are. Both hosts have all CPUs of this machine, so each has the threads that two ranks have here.
train 4 places "${one_step[@]}"
threads=$(grep -oE '[0-9]+ threads? each' here.log)
says places.log "host-a: ranks 0-1 on CPUs "
says places.log "host-b: ranks 2-3 on CPUs "
[ "$(grep -c " together, $threads, device cpu" places.log)" = 2 ] || fail "wanted $threads" places.log
[ "$(grep -c "take turns on" places.log)" = "$(grep -c "take turns on" here.log)" ] || fail "a wrong word on too many threads" places.log
many=$(($(nproc) + 1))
CADRE_THREADS=$many train 4 crowded "${one_step[@]}"
says crowded.log "warning: host-a: $((2 * many)) threads of ranks 0-1 take turns on "

# Ended in three ways, and resumed after each.
interrupt() {  # interrupt STEP STATUS COMMAND ...
  local step=$1 status=$2; shift 2
  start 4 run "${run[@]}"
  until_true "step $step" has_step run "$step"
  "$@"
  ends "$status" run
  until_true "the end of all ranks" no_ranks_of_four
}
no_ranks_of_four() { [ -z "$(rank_pid run 0)$(rank_pid run 1)$(rank_pid run 2)$(rank_pid run 3)" ]; }
interrupt 6 143 stop
valid run/checkpoints
interrupt 14 137 eval 'kill -KILL "$(rank_pid run 3)"'
interrupt 22 5 host_fails host-b
start_host host-b
until_true "sshd of host-b" on_host host-b true
train 4 run "${run[@]}" --resume must
identical whole/checkpoints/step-00000040 run/checkpoints/step-00000040
[ "$(losses run | cut -d ' ' -f 1)" = "$(seq 40)" ] || fail "steps are missing or twice in the metrics"

# A hang.
export CADRE_TIMEOUT_SECONDS=3
start 4 hang "${run[@]}" --set run.steps=100000
until_true "steps" has_step hang 6
kill -STOP "$(rank_pid hang 3)"
ends 5 hang
errors=$(grep "error: " hang.log) && [ "$(wc -l <<<"$errors")" -le 2 ] || fail "wanted an error from each host, or one" hang.log
! grep -v "timed out after 3.*; the job waits for rank 3$" <<<"$errors" || fail "another error" hang.log
says hang.log "  rank 3: stopped or dead"
told_of=$(grep -oE '^  ranks? [0-9, -]+: ' hang.log | tr -d 'rank: s' | tr ',' '\n' | while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done)
[ "$(sort -u <<<"$told_of" | xargs)" = "0 1 2 3" ] || fail "not all ranks are told of" hang.log
