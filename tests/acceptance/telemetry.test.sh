#!/usr/bin/env bash
# Telemetry of experts in metrics.jsonl: the same on one rank and on four; what costs something in step 1 and every so many steps; idle
# experts are counted over a resume. Prometheus: scraped while a run trains; every name that the Grafana dashboard uses is there; a port
# in use is one warning.
# Timeout: 300
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config

train 1 one --set run.steps=8 --set monitor.experts_every=4
train 4 four --set run.steps=8 --set monitor.experts_every=4 --set parallel.expert_parallel=2 --set parallel.pipeline_parallel=2
# values RUN KEY: numbers under a key of the experts, a line each.
values() { grep -oE "\"$2\":(\[[^]]*\]|[^,}]*)" "$1/metrics.jsonl" | grep -oE '[0-9][0-9.e+-]*' || true; }
for key in mass entropy grad_norm update_norm utilisation cv js balance_loss tokens; do
  paste <(values one "$key") <(values four "$key") | awk -v key="$key" '
    { d = $1 - $2; if (d < 0) d = -d; if (d > 0.002 * ($1 + 0.01)) { print key ": " $0; bad = 1 } }
    END { if (NR < 6) { print key ": only " NR; bad = 1 } exit bad }' || fail "$key differs between layouts"
done
measured() { grep -F '"mass"' "$1/metrics.jsonl" | sed -E 's/^\{"step":([0-9]+).*/\1/' | xargs; }
[ "$(measured one)" = "1 4 8" ] || fail "measured in steps $(measured one)"
[ "$(grep -c dispatch_bytes four/metrics.jsonl)" = 3 ] || fail "no traffic between expert ranks"
! grep -q dispatch_bytes one/metrics.jsonl || fail "traffic of one rank"
train 1 never --set run.steps=2 --set monitor.experts_every=0
! grep -q '"mass"' never/metrics.jsonl || fail "measured though not asked for"

# An expert that no token chooses is idle, also in the steps after a resume.
rule=(--set 'moe.rules=[{experts: layers.1.experts.2, dropout: 0.999999}]' --set checkpoint.every=3)
train 1 idle "${rule[@]}" --set run.steps=3
train 1 idle "${rule[@]}" --set run.steps=5
tail -n 1 idle/metrics.jsonl | grep -qF '"idle":[0,0,5,0]' || fail "idle steps are not 5" <(tail -n 1 idle/metrics.jsonl)
grep -qE '"expert_idle_steps":\[\[0,0,0,0\],\[0,0,5,0\]\]' idle/checkpoints/step-00000005/manifest.json || fail "not in the checkpoint"

# A free port, and a run that serves on it.
port=$(shuf -i 20000-29999 -n 1)
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
scrape() {
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
  printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
  cat <&3 >scraped
  exec 3<&-
}
served() { scrape 2>/dev/null && grep -q '^cadre_expert_update_norm' scraped && grep -qE '^cadre_step\{run="live"\} [3-9]' scraped; }
start 2 live --set run.steps=100000 --set checkpoint.every=0 --set "monitor.prometheus=$port" --set monitor.experts_every=2 \
  --set parallel.expert_parallel=2 --set 'data.validation=[tokens]' --set validation.every=2 --set validation.tokens=64 \
  --set 'moe.isolation={experts: "layers.*.experts.*"}'
until_true "metrics over HTTP" served
grep -qE '^cadre_expert_load\{.*(expert="3".*layer="1"|layer="1".*expert="3").*\} ' scraped || fail "no load of the last expert" scraped
grep -qE '^cadre_tokens_total\{run="live"\} [1-9]' scraped || fail "no tokens are counted" scraped
names=$(grep -oE 'cadre_[a-z_]+' "$CADRE_SOURCE/configs/grafana/cadre.json" | sort -u)
[ "$(wc -l <<<"$names")" -ge 12 ] || fail "the dashboard uses few metrics"
for name in $names; do
  grep -qE "^# TYPE $name (gauge|counter)$" scraped || case $name in
    cadre_joules_per_token | cadre_skipped_total) ;;  # not before there is energy, or a skipped expert
    *) fail "the dashboard uses $name, which is not there" scraped ;;
  esac
done
# The port is taken by now.
train 1 second --set run.steps=2 --set "monitor.prometheus=127.0.0.1:$port"
[ "$(grep -c "warning: Prometheus: cannot listen on 127.0.0.1:$port" second.log)" = 1 ] || fail "no warning about the port" second.log
has_step second 2 || fail "training did not go on" second.log
stop
ends 143 live
expect 2 refused.log "$CADRE" config check config.yaml --set monitor.prometheus=localhorst:99999
says refused.log monitor.prometheus
