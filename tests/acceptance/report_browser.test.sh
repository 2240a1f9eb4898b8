#!/usr/bin/env bash
# A browser opens the page of cadre report, in light and in dark, and asks for nothing else.
set -euo pipefail
browser=$(command -v chromium || command -v chromium-browser || true)
[ -n "$browser" ] || { echo "chromium is not installed (launch/install full does)"; exit 77; }
source "$CADRE_SOURCE/tests/faults/fixture.sh"
make_tokens; make_config
train 1 run --set run.steps=6
expect 0 report.log "$CADRE" report run --tokens 1k
browse() {
  timeout -k 5 100 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$PWD/profile" \
    --window-size=1200,2400 "$@" "file://$PWD/run/report.html"
}
if ! browse --dump-dom >dom.html 2>browser.log; then
  echo "chromium does not start here: $(tail -n 1 browser.log)"; exit 77
fi
for text in '<h2>Experts</h2>' '<svg class="heat"' '</html>'; do says dom.html "$text"; done
browse --screenshot="$PWD/light.png" >/dev/null 2>&1
browse --blink-settings=preferredColorScheme=0 --screenshot="$PWD/dark.png" >/dev/null 2>&1
for picture in light dark; do
  [ "$(stat -c %s $picture.png)" -gt 40000 ] || fail "$picture.png is nearly empty"
done
! cmp -s light.png dark.png || fail "dark is as light"
