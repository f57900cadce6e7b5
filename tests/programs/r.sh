#!/bin/bash
# R and its Jupyter kernel as Debian has them, in a folder of its own: nothing is installed.
#
#   r.sh build    unpack if absent; afterwards PREFIX/share/jupyter/kernels/ir is the kernelspec
#
# Variables: PREFIX (the unpacked tree).
set -euo pipefail

PREFIX=${PREFIX:-${TMPDIR:-/tmp}/r-unpacked}
PACKAGE=r-cran-irkernel

[ "${1:-}" = build ] || { sed -n 2,6p "$0"; exit 2; }
[ -e "$PREFIX/.ok" ] && exit 0
new=$PREFIX.new
rm -rf "$new" "$PREFIX"
mkdir -p "$new/debs"
# What it needs beyond what this machine has.
packages=$(apt-get install --simulate --no-install-recommends "$PACKAGE" | awk '/^Inst/ { print $2 }')
if [ -z "$packages" ]; then
  echo "r: $PACKAGE is installed on this machine: its own R is used" >&2
  program="exec R"
else
  # shellcheck disable=SC2086
  (cd "$new/debs" && apt-get download -qq -o APT::Sandbox::User=root $packages)
  for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new"; done
  rm -r "$new/debs"
  # The settings are links to /etc, and one file is made at the installation.
  for link in "$new"/usr/lib/R/etc/*; do
    [ ! -L "$link" ] || ln -sfn "../../../..$(readlink "$link")" "$link"
  done
  cp "$new/usr/lib/R/etc/Renviron.ucf" "$new/etc/R/Renviron"
  lib=$PREFIX/usr/lib/$(uname -m)-linux-gnu
  program="export R_HOME='$PREFIX/usr/lib/R' R_SHARE_DIR='$PREFIX/usr/share/R/share'
export R_LIBS_SITE='$PREFIX/usr/lib/R/site-library'
export LD_LIBRARY_PATH='$PREFIX/usr/lib/R/lib:$lib:$lib/blas:$lib/lapack'
exec '$PREFIX/usr/lib/R/bin/exec/R'"
fi
mkdir -p "$new/bin.cupola" "$new/share/jupyter/kernels/ir"
cat > "$new/bin.cupola/R" <<C
#!/bin/sh
$program "\$@"
C
chmod +x "$new/bin.cupola/R"
# As IRkernel's own installspec() writes it.
cat > "$new/share/jupyter/kernels/ir/kernel.json" <<C
{"argv": ["$PREFIX/bin.cupola/R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
 "display_name": "R", "language": "R"}
C
mv "$new" "$PREFIX"
"$PREFIX/bin.cupola/R" --slave -e 'cat("IRkernel", format(packageVersion("IRkernel")), "\n")' >&2
touch "$PREFIX/.ok"
