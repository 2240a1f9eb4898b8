#!/usr/bin/env bash
# A rank that is stopped, or computes for ever, ends the job with status 5 soon after the deadline: one message says which rank the
# others wait for, and where every rank is. A killed rank ends it within seconds; one that crashes leaves a stack trace with its name.
# Timeout: 400
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
steps=(--set run.steps=100000 --set checkpoint.every=50 --set "batch={global_batch_size: 24, micro_batch_size: 2}")
export CADRE_TIMEOUT_SECONDS=3
slack=15  # seconds beyond the deadline: 1.5 to hear of other causes, the rest for a busy machine

gone() { [ -z "$(rank_pid "$1" "$2")" ]; }
# begin RANKS DIRECTORY [ARGUMENT ...]: a run that has made some steps.
begin() {
  start "$1" "$2" "${steps[@]}" "${@:3}"
  until_true "steps" has_step "$2" 12
}

# stopped RANKS RANK [ARGUMENT ...]: stopping it in training.
stopped() {
  local ranks=$1 rank=$2 run=stop-$1-$2 began line
  begin "$ranks" "$run" "${@:3}"
  kill -STOP "$(rank_pid "$run" "$rank")"
  began=$SECONDS
  ends 5 "$run"
  ((SECONDS - began <= CADRE_TIMEOUT_SECONDS + slack)) || fail "it took $((SECONDS - began)) s" "$run.log"
  until_true "the stopped rank's end" gone "$run" "$rank"
  one_error "$run.log" "timed out after" "; the job waits for rank $rank"
  line=$(grep -E "^  rank $rank: " "$run.log") || fail "no line for rank $rank" "$run.log"
  [[ $line == *"stopped or dead (not heard of for "*" \""*"\" #"*" of "* ]] || fail "an unclear line: $line" "$run.log"
  if [ "$(grep -cE '^  ranks? [0-9, -]+: ' "$run.log")" -lt 2 ]; then fail "the other ranks are not told of" "$run.log"; fi
  if [ -n "$(newest "$run")" ]; then valid "$run/checkpoints"; fi
}
stopped 2 1
stopped 3 0
# Its partner in the expert group waits for it, and the others for both.
stopped 4 2 --set parallel.expert_parallel=2

# A short stop is none.
begin 2 short
pid=$(rank_pid short 1)
kill -STOP "$pid"; sleep 1; kill -CONT "$pid"
at=$(steps_done short)
until_true "more steps" has_step short $((at + 12))
stop
ends 143 short
silent_about short.log "timed out"

# Nor is a job that is suspended and goes on, however long that was.
begin 2 suspended
pids=("$(rank_pid suspended 0)" "$(rank_pid suspended 1)")
kill -STOP "${pids[@]}"; sleep $((2 * CADRE_TIMEOUT_SECONDS)); kill -CONT "${pids[@]}"
at=$(steps_done suspended)
until_true "more steps" has_step suspended $((at + 12))
stop
ends 143 suspended
silent_about suspended.log "timed out"

# Killed.
begin 4 killed
kill -9 "$(rank_pid killed 3)"
began=$SECONDS
ends 137 killed
((SECONDS - began <= 10)) || fail "the job took $((SECONDS - began)) s to end" killed.log

# Crashed.
begin 3 crashed
kill -SEGV "$(rank_pid crashed 1)"
status=0; wait "$job" || status=$?
[ "$status" = 139 ] || fail "status $status, wanted 139" crashed.log
says crashed.log "cadre: [rank 1] crashed: SIGSEGV"
[ "$(grep -c 'cadre.*(.*+0x' crashed.log)" -ge 3 ] || fail "no stack trace" crashed.log
! grep -q "rank [02]\] crashed" crashed.log || fail "another rank crashed, too" crashed.log

# In groups of ranks, and where nothing can be waited for.
# hangs CASE TEXT ...: a case of tests/mpi/hang_faults.cpp; a report with each TEXT.
nodes=()
hangs() {
  local name=$1 text; shift
  expect 5 "$name.log" "$CADRE_RUN" -n 4 "$CADRE_BUILD/tests/test_mpi" --gtest_also_run_disabled_tests \
    --gtest_filter="Hang.DISABLED_$name" "${nodes[@]}"
  for text in "timed out after" "$@"; do says "$name.log" "$text"; done
}
hangs StoppedInAGroup "the job waits for rank 2" 'rank 2: stopped or dead' 'last entered: all_reduce(sum) "tokens" #' \
  ' of row, layer 5, f32 x 100000, finished' 'rank 3: waiting in all_reduce(sum) "tokens" #' ' of row, layer 6, f32 x 100000 for ' \
  'ranks 0, 1: waiting in barrier "end" #'
hangs ComputesForEver "the job waits for rank 2" 'rank 2: outside of collectives for ' 'last entered: barrier "together" #' 'finished' \
  'rank 3: waiting in barrier "dispatch" #'
hangs StoppedBeforeASplit "the job waits for rank 2" 'gather_text "split" #' 'rank 2: stopped or dead'
hangs NobodyReceives 'rank 3: waiting in send "activation" #0 of row, layer 7, f32 x 1000000 to rank 2' 'barrier "end" #'
hangs StoppedBeforeTheEnd "the job waits for rank 2" 'ranks 0, 1, 3: waiting in barrier "end" #' 'rank 2: stopped or dead'
hangs StagesThatWaitForEachOther "the ranks wait for each other: " '0 for 3' '1 for 0' '2 for 1' '3 for 2' \
  'rank 1: waiting in receive "activation" #0 of world, layer 2, f32 x 1000 from rank 0 for '
hangs AStageThatComputesForEver "the job waits for rank 1" 'rank 1: outside of collectives for ' \
  'rank 2: waiting in receive "activation" #0 of world, layer 2, f32 x 1000 from rank 1 for ' \
  'rank 3: waiting in receive "activation" #0 of world, layer 2, f32 x 1000 from rank 2 for '
# As on two nodes, which see each other's ranks through files.
nodes=(--ranks-per-node 2)
hangs StoppedOnAnotherNode "the job waits for rank 2" 'rank 2: stopped or dead' 'last entered: barrier "together" #' \
  'rank 3: waiting in barrier "dispatch" #' 'ranks 0, 1: waiting in barrier "end" #'
