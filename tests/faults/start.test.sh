#!/usr/bin/env bash
# A rank that never comes up: the others do not wait for ever, they end with exit code 5 and say so.
# Timeout: 120
set -euo pipefail
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
cat >late.sh <<'SH'
[ "$OMPI_COMM_WORLD_RANK" = 0 ] || exec sleep 100
exec "$CADRE" train config.yaml
SH
status=0 began=$SECONDS
CADRE_TIMEOUT_SECONDS=3 timeout 60 "$CADRE_RUN" -n 2 bash late.sh >late.log 2>&1 || status=$?
[ "$status" = 5 ] || fail "it ended with status $status, wanted 5" late.log
((SECONDS - began <= 30)) || fail "it took $((SECONDS - began)) s"
says late.log "cadre: error: not all ranks came up within 3 s"
