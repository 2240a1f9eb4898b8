#!/usr/bin/env bash
# Shell scripts parse, say what they are, and can be executed.
source "$(dirname "$0")/rules.sh"
{
  while read -r script; do
    bash -n "$script" 2>&1
    [ -x "$script" ] || [[ $script == tests/lint/* ]] || echo "$script:1: is not executable"
    sed -n 2p "$script" | grep -q '^# [[:alnum:]]' || echo "$script:2: wants a comment that says what the script is"
  done < <(grep -rlE '^#!/(usr/)?bin/(env )?bash' launch tests .ci | grep -v '~$')
} | expect_none "shell scripts"
