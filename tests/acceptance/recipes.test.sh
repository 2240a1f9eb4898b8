#!/usr/bin/env bash
# The recipes of docs/experts.md, as they stand there: their configs are written, their commands run, training on two ranks.
# Timeout: 600
set -euo pipefail
source "$CADRE_SOURCE/tests/acceptance/fixture.sh"
make_tokens
"$CADRE" data prepare "$CADRE_SOURCE/docs/design.md" --tokenizer bytes -o news >/dev/null

# Blocks between the heading and the next: a yaml one begins with "# NAME", an sh one is run.
awk '
  /^## / { on = $2 == "Recipes" }
  !on { next }
  /^```yaml/ { getline; file = $2; next }
  /^```sh/ { file = sprintf("commands-%02d.sh", ++n); next }
  /^```/ { file = ""; next }
  file { print > file }' "$CADRE_SOURCE/docs/experts.md"
recipes=$(ls commands-*.sh | wc -l)
[ "$recipes" = 10 ] || { echo "wanted ten recipes, found $recipes"; exit 1; }

cadre() {
  case $1 in
    train) "$CADRE_RUN" -n 2 "$CADRE" "$@" ;;
    *) "$CADRE" "$@" ;;
  esac
}
for commands in commands-*.sh; do
  (set -euo pipefail; source "./$commands") >"$commands.log" 2>&1 || { tail -n 20 "$commands.log"; echo "$commands failed"; exit 1; }
done

# What they say comes true.
"$CADRE" experts list runs/kinds | grep -qE '^layers.0.experts.5 +narrow +24 +gelu' || { echo "recipe 1"; exit 1; }
"$CADRE" experts list runs/deeper | grep -qE '^layers.1.experts.7 +fine +32' || { echo "recipe 2"; exit 1; }
grep -q 'moe.events\[1\]: clone: layers.0.experts' runs/events/log.txt || { echo "recipe 7"; exit 1; }
"$CADRE" experts list runs/upcycled | grep -qE '^layers.1.experts.3 .* 30$' || { echo "recipe 8"; exit 1; }
# Recipe 9: of the whole model, the one expert alone is another, and the trunk has not moved.
"$CADRE" experts clone runs/base --experts 'layers.0.experts.*' --where 'load_rank == 0' -o before >/dev/null
changed=$({ "$CADRE" checkpoint diff before runs/corpus || true; } | grep -oE '^/(model|optimizer)/[a-z0-9_.]*' | sort -u | grep -v 'layers.0.moe.experts.4' || true)
[ -z "$changed" ] || { echo "recipe 9: moved as well: $changed"; exit 1; }
{ "$CADRE" checkpoint diff before runs/corpus || true; } | grep -q 'layers.0.moe.experts.4.w1' || { echo "recipe 9: nothing learned"; exit 1; }
"$CADRE" experts list runs/home | grep -qE '^layers.0.experts.4 ' || { echo "recipe 10"; exit 1; }
