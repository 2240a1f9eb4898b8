# Sourced by the lint tests. Prints findings as "file:line: what is wrong"; the test fails when there is one.

cd "${CADRE_SOURCE:-$(dirname "${BASH_SOURCE[0]}")/../..}" || exit 1
rooms=(core kernels autograd data parallel model optim launch)

# The project's C++ files: sources REGEX-OF-FOLDERS
sources() { find "$@" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) | LC_ALL=C sort; }

# Fails when standard input holds findings, and prints them.
expect_none() {
  local findings
  findings=$(cat)
  [ -z "$findings" ] || { echo "$1:"; echo "$findings"; exit 1; }
}
