#!/usr/bin/env bash
# Only main ends the program, only launch/ reads the environment, and no file is long without saying why ("This file is long because").
source "$(dirname "$0")/rules.sh"

# The code without its comments and string literals, as "file:line:code".
code() {
  xargs -r awk '{
    line = $0
    gsub(/\\"/, "", line); gsub(/"[^"]*"/, "\"\"", line); sub(/\/\/.*/, "", line)
    if (line ~ /\/\*/ && line !~ /\*\//) { sub(/\/\*.*/, "", line); inside = FILENAME }
    else if (inside == FILENAME) { if (line ~ /\*\//) { sub(/.*\*\//, "", line); inside = "" } else line = "" }
    gsub(/\/\*[^*]*\*\//, "", line)
    if (line ~ /MPI_Abort/) last = FILENAME FNR + 1  # the abort after it only tells the compiler that it does not return
    if (last == FILENAME FNR) next
    if (line ~ /[^ \t]/) print FILENAME ":" FNR ":" line
  }'
}

{
  # Before MPI has come up there is no MPI_Abort: a rank that waits for it past the deadline ends by itself (mpi_messages.cpp).
  # Communicator::abort is a method; a call of the C function has no object and no class before it.
  sources "${rooms[@]}" | grep -vx launch/main.cpp | code |
    grep -E '(std|^)?(^|[^A-Za-z0-9_:.>])(::)?(exit|_exit|_Exit|quick_exit|abort|terminate)\(|std::(exit|_Exit|quick_exit|abort|terminate)\(' |
    grep -vE '(void|override|virtual)[ ]+(abort|terminate)\(|^parallel/comm/mpi_messages.cpp:.*_Exit\(.*ExitCode::kCommunication' | sed 's/$/   <- only launch\/main.cpp ends the program/'
  sources core kernels autograd data parallel model optim | code |
    grep -E '[^A-Za-z0-9_](getenv|secure_getenv|setenv|putenv)\(|[^A-Za-z0-9_]environ[^A-Za-z0-9_]' |
    sed 's/$/   <- only launch\/ reads the environment/'
  for file in $(sources "${rooms[@]}" tests); do
    lines=$(wc -l <"$file")
    ((lines <= 600)) || grep -q 'This file is long because' "$file" || echo "$file:$lines:   <- over 600 lines without a stated reason"
  done
  sources "${rooms[@]}" | grep '\.h$' | xargs -r grep -L '^#pragma once' | sed 's/$/:1:   <- a header without #pragma once/'
} | expect_none "habits that the project does not have"
