# Sourced by tests/run: runs one test program, script or fuzzer and counts into $passed, $failed and $skipped. Needs $scratch, $filter.

report() { printf '%-44s %s\n' "$1" "$2"; }

# Prints a log without flooding: its first 20 and last 100 lines.
excerpt() {
  if (($(wc -l <"$1") <= 120)); then cat "$1"; else head -n 20 "$1"; echo "[...]"; tail -n 100 "$1"; fi
}

# Prints, of a GoogleTest log, what each failed case wrote.
failed_cases() {
  awk '/^\[ RUN      \]/ { block = ""; inside = 1 }
       inside { block = block $0 "\n" }
       /^\[  FAILED  \].* ms\)$/ { if (inside) printf "%s", block; inside = 0 }
       /^\[       OK \]|^\[  SKIPPED \]/ { inside = 0 }' "$1" | head -n 400
}

# Sets cases, cases_failed and cases_skipped from a GoogleTest XML report.
read_report() {
  read -r cases cases_failed cases_skipped < <(awk '
    function value(name) { return match($0, " " name "=\"[0-9]+\"") ? substr($0, RSTART + length(name) + 3) + 0 : 0 }
    /^<testsuites / { tests = value("tests") - value("disabled"); bad = value("failures") + value("errors") }
    /^  <testsuite / { skip += value("skipped") }
    END { print tests + 0, bad + 0, skip + 0 }' "$1")
}

# Runs a GoogleTest program: run_program PROGRAM NAME [RANKS]. A crash, a time-out, or a bad exit status without a failed case counts as one
# failed case.
run_program() {
  local program=$1 name=$2 log=$scratch/log xml=$scratch/report status begin=$SECONDS note="" arguments=()
  if [ -n "$filter" ] && [[ $name != *"$filter"* ]]; then
    [ -x "$program" ] && "$program" --gtest_list_tests "--gtest_filter=*$filter*" 2>/dev/null | grep -q '^  ' || return 0
    arguments=("--gtest_filter=*$filter*")
  fi
  if ! [ -x "$program" ]; then
    report "$name" "FAILED: there is no $program"
    failed=$((failed + 1))
    return
  fi
  rm -f "$xml".*
  # Every rank writes a report of its own.
  local launcher=(bash -c 'exec "$0" "--gtest_output=xml:$1.${OMPI_COMM_WORLD_RANK:-0}" "${@:2}"')
  [ -z "${3:-}" ] || launcher=("$CADRE_RUN" -n "$3" "${launcher[@]}")
  mkdir -p "$scratch/work"
  {  # the braces keep the shell's own word about a crash out of the way
    TMPDIR=$scratch/work timeout -k 10 "${CADRE_TEST_TIMEOUT:-900}" \
      "${launcher[@]}" "$PWD/$program" "$xml" --gtest_color=no "${arguments[@]}" >"$log" 2>&1
  } 2>/dev/null
  status=$?
  rm -rf "$scratch/work"
  cases=0 cases_failed=0 cases_skipped=0
  if [ -s "$xml.0" ]; then
    read_report "$xml.0"
    if ((status != 0 && cases_failed == 0)); then
      note="; exit status $status though rank 0 reports no failed case"; cases=$((cases + 1)); cases_failed=1
    elif ((cases == 0)); then
      note="; no case ran"; cases=1 cases_failed=1
    fi
  else
    cases_failed=$(($(grep -c '^\[  FAILED  \].* ms)$' "$log") + 1))
    cases_skipped=$(grep -c '^\[  SKIPPED \].* ms)$' "$log")
    cases=$(($(grep -c '^\[       OK \]' "$log") + cases_failed + cases_skipped))
    note="; ended in $(sed -n 's/^\[ RUN      \] //p' "$log" | tail -n 1), exit status $status$(((status == 124 || status == 137)) && echo ' (time-out)')"
    note+=", the cases after it did not run"
  fi
  passed=$((passed + cases - cases_failed - cases_skipped)) failed=$((failed + cases_failed)) skipped=$((skipped + cases_skipped))
  local line="$((cases - cases_failed - cases_skipped)) passed"
  ((cases_failed == 0)) || line+=", $cases_failed FAILED"
  ((cases_skipped == 0)) || line+=", $cases_skipped skipped"
  report "$name" "$line ($((SECONDS - begin)) s)$note"
  ((cases_failed == 0)) && return
  failed_cases "$log"
  [ -z "$note" ] || excerpt <(tail -n 60 "$log")
  for other in "$xml".[1-9]*; do
    ! [ -e "$other" ] || grep -h -A4 '<failure ' "$other" | head -n 40
  done
}

# Runs one test script: run_script PATH
run_script() {
  local script=$1 name log=$scratch/log status begin=$SECONDS limit
  name=${script#tests/}; name=${name%.test.sh}
  [[ $name == *"$filter"* ]] || return 0
  limit=$(sed -n 's/^# Timeout: *\([0-9]*\).*/\1/p' "$script" | head -n 1)
  mkdir -p "$scratch/work"
  (cd "$scratch/work" && TMP=$PWD TMPDIR=$PWD exec timeout -k 10 "${limit:-300}" bash "$CADRE_SOURCE/$script") </dev/null >"$log" 2>&1
  status=$?
  rm -rf "$scratch/work"
  case $status in
    0) passed=$((passed + 1)); report "$name" "passed ($((SECONDS - begin)) s)" ;;
    77) skipped=$((skipped + 1)); report "$name" "skipped: $(tail -n 1 "$log")" ;;
    *) failed=$((failed + 1))
      report "$name" "FAILED ($((SECONDS - begin)) s), exit status $status$([ $status != 124 ] || echo ', time-out')"
      excerpt "$log" ;;
  esac
}

# Runs every fuzzer of a folder, as many at a time as there are cores: run_fuzzers FOLDER SECONDS. What a crash needs to be repeated
# stays in FOLDER.
run_fuzzers() {
  local folder=$1 seconds=$2 fuzzer name started=0
  for fuzzer in "$folder"/fuzz_*; do
    name=$(basename "$fuzzer")
    [ -f "$fuzzer" ] && [ -x "$fuzzer" ] && [[ $name == *"$filter"* ]] || continue
    mkdir -p "$folder/grown_$name"
    "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$folder/$name-" \
      "$folder/grown_$name" "tests/fuzz/corpus/${name#fuzz_}" >"$scratch/$name.log" 2>&1 &
    echo "$! $name" >>"$scratch/fuzzers"
    started=$((started + 1))
    ((started % $(nproc) != 0)) || wait_for_fuzzers
  done
  wait_for_fuzzers
  ((started > 0)) || [ -n "$filter" ] || { failed=$((failed + 1)); report fuzz "FAILED: no fuzzer in $folder"; }
}
wait_for_fuzzers() {
  local job name runs
  [ -f "$scratch/fuzzers" ] || return 0
  while read -r job name; do
    if wait "$job"; then
      runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/$name.log")
      passed=$((passed + 1)); report "$name" "passed ($runs inputs)"
    else
      failed=$((failed + 1)); report "$name" FAILED; excerpt "$scratch/$name.log"
    fi
  done <"$scratch/fuzzers"
  rm -f "$scratch/fuzzers"
}
