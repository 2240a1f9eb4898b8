#!/usr/bin/env bash
# cadre report: a page of a run of experts, resumed and cut; one of a dense model; without a checkpoint, without data; with metrics that
# are missing or broken.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config

train 2 run --set run.steps=10 --set run.stop_after=6 --set parallel.expert_parallel=2 --set 'data.validation=[tokens]' --set validation.every=3
train 2 run --set run.steps=10 --set parallel.expert_parallel=2 --set 'data.validation=[tokens]' --set validation.every=3
printf '{"step":11,"loss":' >>run/metrics.jsonl  # as a crash leaves it
report() { expect 0 report.log "$CADRE" report "$@"; }
report run --tokens 1k
page=run/report.html
[ "$(cat report.log)" = "$page" ] || fail "it does not say where the page is" report.log
for text in '<h2>Training</h2>' 'Gradient norm' 'validation <b>' 'id="layer-1"' 'data:image/png;base64,' 'Traffic between expert ranks' \
  'What experts take' 'step-00000010' 'tokens of its own' '<code title=' 'num_kv_heads: 2' '1 lines of metrics.jsonl'; do
  says "$page" "$text"
done
silent_about "$page" '<script'
if grep -oE '(src|href)="[^"]{1,12}' "$page" | grep -vE '"(data:image|#)'; then fail "the page needs something else"; fi

report run --tokens 0 -o none.html
says none.html 'not asked for (--tokens 0)'
silent_about none.html '<code title='
rm -r run/checkpoints
report run -o bare.html
says bare.html 'there is no checkpoint: no folder run/checkpoints'
train 1 dense --set moe.num_experts=0 --set run.steps=3
report dense
silent_about dense/report.html 'What experts take'
says dense/report.html 'Learning rate'
train 1 moved --set run.steps=2
mv tokens.bin elsewhere.bin
report moved
says moved/report.html 'tokens'
silent_about moved/report.html '<code title='

mkdir empty broken
expect 3 missing.log "$CADRE" report empty
one_error missing.log empty/metrics.jsonl 'no such file'
echo 'no metrics' >broken/metrics.jsonl
expect 3 broken.log "$CADRE" report broken
one_error broken.log broken/metrics.jsonl 'no line of it is a step'
expect 2 tokens.log "$CADRE" report dense --tokens many
one_error tokens.log --tokens
