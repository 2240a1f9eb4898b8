#!/usr/bin/env bash
# Code compiled for one instruction set defines no symbol that the linker may merge with the same code of another: what an AVX-512
# object offers under a common name (an inline function, a template of the standard library) would run on every CPU, and crash there.
source "$(dirname "$0")/rules.sh"
folder=${CADRE_BUILD:-$PWD/build}/CMakeFiles
[ -d "$folder/cadre_simd_avx2.dir" ] || { echo "no object is compiled for one instruction set"; exit 77; }

# Prints the symbols that other objects see (T text, W and V weak, u unique, D B R data) outside the namespace of the variant.
stray_symbols() {
  find "$folder/cadre_simd_$1.dir" -name '*.o' 2>/dev/null | LC_ALL=C sort | while read -r object; do
    nm --defined-only --extern-only -C "$object" | sed -E 's/^[0-9a-f]+ //' | grep -E '^[TWVuDBR] ' | grep -vE "(^|[^a-z0-9_])$1::" |
      sed "s|^|${object#"$folder"/}: |" | head -n 20
  done
}
{ stray_symbols avx2; stray_symbols avx512; } | expect_none "symbols outside the namespace of their instruction set"
