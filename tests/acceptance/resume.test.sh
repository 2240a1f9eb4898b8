#!/usr/bin/env bash
# 40 steps in one run, and 20 steps, kill -9 of a rank, and resume to 40, give identical checkpoints; a killed rank ends the job
# within 10 seconds, and each step is in the metrics exactly once.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens; make_config
train 2 whole

# Slower steps, so that there is time to kill between steps 20 and 40; its losses are those of `whole`.
"$CADRE_RUN" -n 2 "$CADRE" train config.yaml --set run.directory=cut --set monitor.log_every=1 >cut.log 2>&1 &
job=$!
for _ in $(seq 3000); do [ -d cut/checkpoints/step-00000020 ] && break; sleep 0.01; done
victim=$(pgrep -f -- "run.directory=cut" | while read -r pid; do [ "$(readlink -f "/proc/$pid/exe")" = "$(readlink -f "$CADRE")" ] && echo "$pid"; done | tail -n 1)
kill -9 "$victim"
killed=$SECONDS
if wait $job; then echo "the job went on without its rank"; exit 1; fi
((SECONDS - killed <= 10)) || { echo "the job took $((SECONDS - killed)) s to end"; exit 1; }
[ ! -d cut/checkpoints/step-00000040 ] || { echo "killed too late to test anything"; exit 1; }

train 2 cut --resume must
identical whole/checkpoints/step-00000040 cut/checkpoints/step-00000040
steps=$(losses cut | awk '{print $1}' | tr '\n' ' ')
[ "$steps" = "$(seq -s ' ' 40) " ] || { echo "steps in the metrics: $steps"; exit 1; }
