# How the parts of ci/tuning say what held and what did not. Sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2001 # what is set here is used elsewhere; sed is for every line

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TUNING=$ROOT/tuning
PART=$(basename "$0")
failures=0
# Who runs this may hide what they make; units and files must be readable by the users that services run as.
umask 022

ok()  { echo "ok      $PART: $1"; }
bad() { echo "FAILED  $PART: $1"; failures=$((failures + 1)); }

# check WHAT COMMAND…: the command must succeed; what it printed is shown where it does not.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then ok "$what"; return; fi
    bad "$what${said:+:}"
    [ -z "$said" ] || sed 's/^/          /' <<<"$said"
}

same() { [ "$1" = "$2" ] || { printf 'was   %s\nis    %s\n' "$1" "$2"; return 1; }; }

# refuses CODE PATTERN COMMAND…: ends with that code, and its first line says why and matches the pattern.
refuses() {
    local code=$1 pattern=$2 said got=0
    shift 2
    said=$("$@" 2>&1) || got=$?
    [ "$got" = "$code" ] && head -n 1 <<<"$said" | grep -q -- "$pattern" ||
        { echo "exit $got, not $code: $said"; return 1; }
}

# within SECONDS COMMAND…: tries until it succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "not within its time: $*"; return 1; }
        sleep 0.05
    done
}

# Starts the script again in a network and a mount name space of its own, which end with it.
enter_space() {
    [ -n "${IN_SPACE-}" ] || IN_SPACE=yes exec unshare --net --mount --propagation private "$0"
    ip link set lo up
}

finish() { exit $((failures > 0)); }
