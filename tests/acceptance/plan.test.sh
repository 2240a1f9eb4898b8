#!/usr/bin/env bash
# A plan ranks layouts and shows one in full; what is auto in a config is decided, written down, and decided alike by a run that goes on;
# a layout that cannot fit is refused with its size.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config

wants() { grep -qE -- "$2" "$1" || { cat "$1"; echo "$1: wanted $2"; exit 1; }; }
"$CADRE" plan config.yaml --ranks 8 --device h100 >ranking.txt
wants ranking.txt '^h100: 74.5 GiB of memory'
wants ranking.txt '^dp=[0-9]+,ep=[0-9]+,pp=[0-9]+ +2 '
wants ranking.txt 'cannot be: more stages than the 2 layers'
"$CADRE" plan config.yaml --ranks 2 --layout pp=2 >one.txt
wants one.txt '^dp=1,ep=1,pp=2, micro-batches of 2, 4 a step'
wants one.txt '^rank 1 \|.*B3'
wants one.txt '^pipeline +activation +4 '
"$CADRE" plan config.yaml --ranks 2 --layout ep=2 --json >one.json
wants one.json '"expert_parallel": 2,'
wants one.json '"activations": [1-9]'

autos=(--set parallel.expert_parallel=auto --set parallel.pipeline_parallel=auto --set batch.micro_batch_size=auto)
train 2 run "${autos[@]}" --set run.steps=4 --set run.stop_after=2
decided() { grep -E '^ +(data_parallel|expert_parallel|pipeline_parallel|micro_batch_size):' "$1"; }
decided run/config.resolved.yaml >first.txt
if [ "$(wc -l <first.txt)" != 4 ] || grep -q auto first.txt; then cat first.txt; echo "wanted four decisions"; exit 1; fi
train 2 run "${autos[@]}" --set run.steps=4 --resume must
decided run/config.resolved.yaml | diff - first.txt

status=0
"$CADRE_RUN" -n 2 "$CADRE" train config.yaml "${autos[@]}" --set run.directory=no --set device.memory_gib=0.001 >refused.log 2>&1 || status=$?
[ "$status" = 2 ] || { cat refused.log; echo "wanted exit 2, got $status"; exit 1; }
wants refused.log 'device.memory_gib: no layout of 2 ranks fits; dp=.* needs .* of them '
