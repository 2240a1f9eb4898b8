#!/usr/bin/env bash
# Metrics, TensorBoard events, plot or log that cannot be written never stop training, nor change a bit of it.
# Timeout: 200
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
short=(--set run.steps=12 --set checkpoint.every=5)
train 2 whole "${short[@]}"
last=checkpoints/step-00000012
# goes_on DIRECTORY WORD
goes_on() {
  train 2 "$1" "${short[@]}"
  identical "whole/$last" "$1/$last"
  grep -F "warning" "$1.log" | grep -qF "$2" || fail "no warning about $2" "$1.log"
  [ "$(grep -cF "$2" "$1.log")" -le 2 ] || fail "many warnings" "$1.log"
}
if [ -c /dev/full ]; then
  mkdir full; ln -s /dev/full full/metrics.jsonl; goes_on full metrics
  mkdir log; ln -s /dev/full log/log.txt; train 2 log "${short[@]}"; identical whole/$last log/$last
fi
mkdir -p folder/metrics.jsonl; goes_on folder metrics
mkdir -p logs/log.txt logs/log.rank1.txt; goes_on logs log.txt
mkdir -p plot/loss.svg; goes_on plot loss.svg

# The disk of the sinks fills up in the midst of a run, and its metrics are deleted in another.
start 1 limited --set run.steps=100000 --set checkpoint.every=0
until_true "steps" has_step limited 5
rm limited/metrics.jsonl
until_true "a warning" grep -q "warning: metrics" limited.log
stop
ends 143 limited
valid limited/checkpoints
