#!/usr/bin/env bash
# docs/config.md is what the program says of its settings.
source "$(dirname "$0")/rules.sh"
[ -f docs/config.md ] || { echo "there is no docs/config.md"; exit 77; }
"$CADRE" config docs >"$TMP/config.md" || { echo "cadre config docs failed"; exit 1; }
diff -u docs/config.md "$TMP/config.md" | head -n 40 >"$TMP/difference"
[ ! -s "$TMP/difference" ] || { echo "docs/config.md is stale; run: build/cadre config docs > docs/config.md"; cat "$TMP/difference"; exit 1; }
