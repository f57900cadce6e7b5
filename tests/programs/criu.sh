#!/bin/bash
# CRIU as Debian will have it, in a folder of its own: Debian 12's 3.17 and 13's 4.1 fail on kernels of today.
#
#   criu.sh build    unpack if absent; afterwards PREFIX/bin.cupola/criu is the command
#
# Variables: PREFIX (the unpacked tree), SUITE, MIRROR.
set -euo pipefail

PREFIX=${PREFIX:-${TMPDIR:-/tmp}/criu-unpacked}
SUITE=${SUITE:-sid}

mirror() { # the Debian mirror this machine's apt already uses
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$codename" '$1 == release && $2 == "main" && !found { print $3; found = 1 }'
}

[ "${1:-}" = build ] || { sed -n 2,7p "$0"; exit 2; }
[ -e "$PREFIX/.ok" ] && exit 0
new=$PREFIX.new
mkdir -p "$(dirname "$PREFIX")"
rm -rf "$new" "$PREFIX"
MIRROR=${MIRROR:-$(mirror)}
# A mirror may be some weeks behind: what it has is signed all the same.
mmdebstrap --quiet --variant=extract --include=criu --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/*' "$SUITE" "$new" "$MIRROR"
mkdir -p "$new/bin.cupola"
lib=usr/lib/$(uname -m)-linux-gnu
loader=$(cd "$new/$lib" && echo ld-linux-*.so.*)
cat > "$new/bin.cupola/criu" <<C
#!/bin/sh
exec "$PREFIX/$lib/$loader" --library-path "$PREFIX/$lib" "$PREFIX/usr/sbin/criu" "\$@"
C
chmod +x "$new/bin.cupola/criu"
mv "$new" "$PREFIX"
"$PREFIX/bin.cupola/criu" --version >&2
touch "$PREFIX/.ok"
