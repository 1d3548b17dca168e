# What queues, irq and steering share: arguments, lists of cores, and a memory of what was before.
#
# Sourced, not run. A script sets USAGE, defines show, apply and undo, and calls `main "$@"`. Before a file of /sys or
# /proc is written, its content goes into STATE/DEV.SCRIPT, one "path value" a line, and undo writes that back. A second
# apply keeps what the first one found. The state lies below /run: it is gone after a reboot, and so are the settings.
# Exit codes: 0 done, 1 it failed, 2 wrong usage.
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by the script that sources this

STATE=/run/edgehold-tuning
SYS=/sys/class/net
SELF=${0##*/}

fail()  { echo "$SELF: $*" >&2; exit 1; }
usage() { echo "$SELF: $*" >&2; echo "usage: $USAGE" >&2; exit 2; }
warn()  { echo "$SELF: $*" >&2; }

# ---- arguments ----

main() {
    dry_run='' rfs='' device='' cores=()
    local words=()
    read_options "$@"
    [ ${#words[@]} -ge 1 ] || usage "say what to do"
    case "${words[0]}" in
        show) takes 0 1 "a device at most" ;;
        apply) takes 1 2 "a device, and perhaps cores" ;;
        undo) takes 1 1 "a device" ;;
        *) usage "'${words[0]}' is none of show, apply, undo" ;;
    esac
    "do_${words[0]}" "${words[@]:1}"
}

# takes LEAST MOST WHAT: how many words may follow the first.
takes() {
    local count=$((${#words[@]} - 1))
    if [ "$count" -lt "$1" ] || [ "$count" -gt "$2" ]; then usage "${words[0]} takes $3"; fi
}

read_options() {
    local word
    for word in "$@"; do
        case "$word" in
            --dry-run) dry_run=yes ;;
            --rfs) if [ "$SELF" != steering ]; then usage "--rfs is an option of steering"; fi; rfs=yes ;;
            -h | --help) echo "usage: $USAGE"; exit 0 ;;
            -*) usage "no option is called $word" ;;
            *) words+=("$word") ;;
        esac
    done
}

# Without a device: every one that has hardware behind it.
do_show() {
    if [ $# -eq 1 ]; then choose "$1"; show; return; fi
    local folder
    for folder in "$SYS"/*/device; do
        if [ -e "$folder" ]; then device=$(basename "${folder%/device}"); show; fi
    done
}

do_apply() {
    read_cores "${2:-$(cat /sys/devices/system/cpu/online)}"
    choose "$1"
    need_root
    apply
}

do_undo() {
    choose "$1"
    [ -e "$(state_file)" ] || fail "$device: nothing to undo: there is no $(state_file)"
    need_root
    undo
    run rm "$(state_file)"
}

choose() {
    device=$1
    case "$device" in *[/[:space:]]* | '' | .*) usage "'$device' is no name of a device" ;; esac
    [ -e "$SYS/$device" ] || fail "$device: no such device (ip link shows them)"
}

need_root() { [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || fail "only root may do this (--dry-run shows the commands)"; }
need_ethtool() { command -v ethtool >/dev/null || fail "ethtool is missing: apt-get install ethtool"; }

# ---- cores ----

# "0-3,6" becomes cores=(0 1 2 3 6), in the order that was written: that of the shards.
read_cores() {
    local part first last
    [[ $1 =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || usage "'$1' is no list of cores, such as 0-3,6"
    for part in ${1//,/ }; do
        first=$((10#${part%-*})) last=$((10#${part#*-}))
        if [ "$first" -gt "$last" ] || [ "$last" -ge 4096 ]; then usage "'$part' is no range of cores"; fi
        while [ "$first" -le "$last" ]; do need_core "$first"; cores+=("$first"); first=$((first + 1)); done
    done
}

need_core() {
    local folder=/sys/devices/system/cpu/cpu$1
    # A core that cannot be switched off has no such file.
    if [ ! -d "$folder" ] || [ "$(cat "$folder/online" 2>/dev/null || echo 1)" != 1 ]; then
        fail "core $1 is not online ($(cat /sys/devices/system/cpu/online) are)"
    fi
}

# The cores as the kernel writes a set of them: hexadecimal words of 32 bits, the highest first.
mask_of() {
    local core word top=0 words=() text
    for core in "$@"; do
        word=$((core / 32))
        words[word]=$((${words[word]:-0} | 1 << core % 32))
        [ "$word" -le "$top" ] || top=$word
    done
    printf -v text '%x' "${words[top]:-0}"
    for ((word = top - 1; word >= 0; word--)); do printf -v text '%s,%08x' "$text" "${words[word]:-0}"; done
    echo "$text"
}

# The core of queue number $1: that of the shard with the same number.
core_of() { echo "${cores[$1 % ${#cores[@]}]}"; }

# ---- changing and remembering ----

state_file() { echo "$STATE/$device.$SELF"; }

# Runs a command, or shows it.
run() {
    if [ -n "$dry_run" ]; then echo "$*"; else "$@"; fi
}

# remember PATH VALUE: what was before, unless an earlier apply has said so.
remember() {
    [ -z "$dry_run" ] || return 0
    mkdir -p "$STATE"
    grep -qsF -- "$1 " "$(state_file)" || echo "$1 $2" >>"$(state_file)"
}

# put VALUE FILE WHY-NOT: writes a file of the kernel's.
put() {
    local before
    before=$(cat "$2" 2>/dev/null) || fail "$device: $2: cannot be read: $3"
    remember "$2" "$before"
    write "$1" "$2" "$3"
}

write() {
    if [ -n "$dry_run" ]; then echo "echo $1 > $2"; return; fi
    { echo "$1" >"$2"; } 2>/dev/null || fail "$device: the kernel does not take '$1' in $2: $3"
}

put_back() {
    local path value
    while read -r path value; do
        write "$value" "$path" "has the number of queues changed since? Undo in reverse: steering, irq, queues"
    done <"$(state_file)"
}

# ---- queues ----

# queues_of rx|tx: their numbers, one a line, in order.
queues_of() {
    local queue
    for queue in "$SYS/$device/queues/$1"-*; do
        if [ -d "$queue" ]; then echo "${queue##*-}"; fi
    done | sort -n
}
