# Debian packages, without their services: sourced by ci/install and bench/compare/install, which set CACHE (a folder for
# the log) and failures (a count).

say()  { echo "install: $*"; }
fail() { echo "install: CANNOT $*" >&2; failures=$((failures + 1)); }

installed_version() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# The caller starts its own servers on its own ports; a package must not start one more on install.
POLICY=/usr/sbin/policy-rc.d
forbid_service_starts() {
    [ -e $POLICY ] && return
    printf '#!/bin/sh\nexit 101\n' | as_root tee $POLICY >/dev/null && as_root chmod +x $POLICY && policy_is_ours=1
}
allow_service_starts() { [ -z "${policy_is_ours:-}" ] || as_root rm -f $POLICY; policy_is_ours=; }
trap allow_service_starts EXIT

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
        install --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1
}

# Old package lists name versions the mirror no longer has, hence the second try after an update.
install_debian() {
    say "Debian: $*"
    forbid_service_starts
    apt_install "$@" || { as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null 2>&1; apt_install "$@"; } ||
        fail "install $*: $(grep -m1 '^E:' "$CACHE/apt.log" || tail -n1 "$CACHE/apt.log")"
    allow_service_starts
}
