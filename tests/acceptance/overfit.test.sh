#!/usr/bin/env bash
# Overfitting one batch drives the loss under 0.05.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
# 8 windows of 64 tokens: every batch is the whole text.
head -c 514 text.txt >few.txt
"$CADRE" data prepare few.txt --tokenizer bytes --invalid-utf8 replace -o few >/dev/null
train 1 run --set data.train=[few] --set run.steps=300 --set checkpoint.every=0 --set optimizer.weight_decay=0
loss=$(losses run | tail -n 1 | cut -d ' ' -f 2)
echo "loss after 300 steps on one batch: $loss"
awk -v loss="$loss" 'BEGIN { exit !(loss < 0.05) }'
