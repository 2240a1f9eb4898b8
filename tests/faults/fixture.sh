# Sourced by the scripts of this folder, after the acceptance fixture that it brings: ways to hurt a run and to look at how it ends.

source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
limit=120  # seconds after which a command counts as hung
job=""
# What a script that failed left running; mpirun and its ranks die with launch/run.
trap '[ -z "$job" ] || pkill -KILL -P "$job" || true' EXIT

fail() { echo "FAILED: $1"; [ -z "${2:-}" ] || tail -n 30 "$2"; exit 1; }

# expect STATUS LOG COMMAND ...: runs it to its end; its output goes to LOG.
expect() {
  local want=$1 log=$2 status=0; shift 2
  timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
  [ "$status" = "$want" ] || fail "status $status, wanted $want: $*" "$log"
  no_crash "$log"
}

no_crash() {
  if grep -nE 'Segmentation|terminate called|core dumped|AddressSanitizer|runtime error:|Signal: ' "$1"; then fail "it crashed" "$1"; fi
}

# one_error LOG TEXT ...: exactly one line of the log is an error, and every TEXT is on it.
one_error() {
  local log=$1 lines text; shift
  lines=$(grep -E '(\] |[0-9] )error: |^cadre: ' "$log" || true)
  [ "$(wc -l <<<"$lines")" = 1 ] && [ -n "$lines" ] || fail "wanted one error line, got: $lines" "$log"
  for text in "$@"; do [[ $lines == *"$text"* ]] || fail "no '$text' in: $lines"; done
}
says() { grep -qF -- "$2" "$1" || fail "no '$2' in $1" "$1"; }
silent_about() { if grep -nF -- "$2" "$1"; then fail "'$2' in $1" "$1"; fi; }

# start RANKS DIRECTORY [ARGUMENT ...]: trains in the background; sets `job`. A run must end by itself or by stop().
start() {
  local ranks=$1 directory=$2; shift 2
  # A shell has its background jobs ignore SIGINT.
  timeout -k 5 "$limit" env --default-signal=INT "$CADRE_RUN" -n "$ranks" "$CADRE" train config.yaml --set "run.directory=$directory" "$@" \
    >"$directory.log" 2>&1 </dev/null &
  job=$!
}
# ends STATUS DIRECTORY: waits for the run.
ends() {
  local status=0
  wait "$job" || status=$?
  [ "$status" = "$1" ] || fail "the run in $2 ended with status $status, wanted $1" "$2.log"
  no_crash "$2.log"
}
# The process of launch/run.
launcher() { pgrep -P "$job" | head -n 1; }
# Asks the job to save and end.
stop() { kill -USR1 "$(launcher)"; }

# until_true WHAT COMMAND ...: polls for up to a minute.
until_true() {
  local what=$1; shift
  for _ in $(seq 3000); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.02
  done
  fail "waited a minute for $what"
}
has_step() { [ "$(steps_done "$1")" -ge "$2" ]; }
steps_done() {
  local last
  last=$(tail -n 1 "$1/metrics.jsonl" 2>/dev/null | grep -oE '"step":[0-9]+' || true)
  echo "$((${last#*:} + 0))"
}

# rank_pid DIRECTORY RANK: the process of that rank of the run in DIRECTORY; nothing when there is none.
rank_pid() {
  local pid
  for pid in $(pgrep -f -- "run.directory=$1( |\$)"); do
    if [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$CADRE")" ] && [ "/proc/$pid/cwd" -ef . ] &&
      grep -qzx "OMPI_COMM_WORLD_RANK=$2" "/proc/$pid/environ" 2>/dev/null; then echo "$pid"; return; fi
  done
}
no_ranks() { [ -z "$(rank_pid "$1" 0)$(rank_pid "$1" 1)" ]; }

# newest DIRECTORY: the folder of the newest published checkpoint; nothing when there is none.
newest() { { find "$1/checkpoints" -maxdepth 1 -regex ".*/step-[0-9]+" 2>/dev/null || true; } | sort | tail -n 1; }
valid() { "$CADRE" checkpoint check "$1" >check.log 2>&1 || fail "$1 is not valid" check.log; }

# in_own_mounts SCRIPT: starts the script anew where mounts end with it; goes on without mounts where that is not allowed.
can_mount=false
in_own_mounts() {
  if [ -n "${FAULTS_MOUNTS:-}" ]; then can_mount=true; return; fi
  if unshare --mount true 2>/dev/null; then FAULTS_MOUNTS=1 exec unshare --mount bash "$1"; fi
  echo "no mounts allowed here: full and read-only file systems are left out, limits of file size stand for them"
}
