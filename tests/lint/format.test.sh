#!/usr/bin/env bash
# The code is formatted as .clang-format says.
source "$(dirname "$0")/rules.sh"
command -v clang-format-14 >/dev/null || { echo "there is no clang-format-14"; exit 77; }
sources "${rooms[@]}" tests | xargs -r -P "$(nproc)" -n 1 bash -c \
  'clang-format-14 --dry-run -Werror "$0" >/dev/null 2>&1 || echo "$0:1: run clang-format-14 -i $0"' | sort | expect_none "not formatted"
