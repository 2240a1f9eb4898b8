#!/usr/bin/env bash
# Every header compiles alone. One that its own .cpp includes first has proved it in the build; the others are compiled here. Ninja
# remembers the good ones in build/lint and looks again only when one of their files changes.
# Timeout: 900
source "$(dirname "$0")/rules.sh"
folder=${CADRE_BUILD:-$PWD/build}/lint
commands=${CADRE_BUILD:-$PWD/build}/compile_commands.json
[ -f "$commands" ] || { echo "there is no $commands"; exit 77; }
mkdir -p "$folder"

# The headers that no build proves: those without a .cpp of the same name that includes them before anything else.
unproved_headers() {
  sources "${rooms[@]}" | grep '\.h$' | grep -vE '/cuda/|/nccl' | while read -r header; do
    first=$(grep -m 1 "^#include" "${header%.h}.cpp" 2>/dev/null)
    [[ $first == "#include \"$header\""* ]] || echo "$header"
  done
}

# The folders of third-party headers, as the build found them.
system=$(grep -oE -- '-isystem [^ "]+' "$commands" | sort -u | tr '\n' ' ')
{
  echo "rule header"
  echo "  command = g++ -std=c++20 -fsyntax-only -w -I$PWD $system" \
    "-DOMPI_SKIP_MPICXX -DCADRE_X86=1 -MMD -MF \$out.d -MT \$out -x c++ \$in && touch \$out"
  echo "  depfile = \$out.d"
  echo "  deps = gcc"
  echo "  description = \$in"
  unproved_headers | while read -r header; do
    echo "build $folder/$header.ok: header $PWD/$header"
  done
} >"$folder/build.ninja.new"
cmp -s "$folder/build.ninja.new" "$folder/build.ninja" || mv "$folder/build.ninja.new" "$folder/build.ninja"
sources "${rooms[@]}" | sed "s|^|$folder/|; s|/[^/]*$||" | sort -u | xargs mkdir -p
ninja --quiet -k 0 -C "$folder" >"$folder/log" 2>&1 && exit 0
echo "headers that do not compile alone:"
grep -E '^FAILED|error:' "$folder/log" | sed "s|$folder/||; s|$PWD/||" | head -n 60
exit 1
