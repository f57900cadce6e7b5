#!/bin/bash
# Deno, a JavaScript and TypeScript runtime with a Jupyter kernel of its own (written in Rust, no line of Python), from PyPI.
#
#   deno.sh build    fetch if absent; afterwards PREFIX/share/jupyter/kernels/deno is the kernelspec
#
# Variables: PREFIX (where it comes to lie), PYTHON (with pip).
set -euo pipefail

PREFIX=${PREFIX:-${TMPDIR:-/tmp}/deno-unpacked}
PYTHON=${PYTHON:-python3}

[ "${1:-}" = build ] || { sed -n 2,6p "$0"; exit 2; }
[ -e "$PREFIX/.ok" ] && exit 0
new=$PREFIX.new
rm -rf "$new" "$PREFIX"
mkdir -p "$new/share/jupyter/kernels/deno"
echo "deno==2.9.8 --hash=sha256:b1d1318e7deda8efd593aefa8b565a827fe71cf83aeff09d3a5ceb047444ca18" > "$new/requirements.txt"
"$PYTHON" -m pip install --quiet --root-user-action=ignore --only-binary :all: --no-deps --require-hashes \
  --target "$new/package" -r "$new/requirements.txt"
# As "deno jupyter --install" writes it.
cat > "$new/share/jupyter/kernels/deno/kernel.json" <<C
{"argv": ["$PREFIX/package/bin/deno", "jupyter", "--kernel", "--conn", "{connection_file}"],
 "display_name": "Deno", "language": "typescript"}
C
mv "$new" "$PREFIX"
"$PREFIX/package/bin/deno" --version >&2
touch "$PREFIX/.ok"
