# shellcheck shell=bash
# Long-running processes of a folder: start them, recognise them again, end them. To be sourced.
#
# A pid file holds "PID STARTTIME". The start time (field 22 of /proc/PID/stat) tells our process from a stranger
# who got its number later, so nothing that we did not start is ever signalled.

# process_start_time PID: prints when it started, in clock ticks since boot; fails for none and for zombies.
process_start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name in parentheses may hold blanks and parentheses itself; fields are counted from behind it.
    local -a fields
    read -r -a fields <<<"${stat##*) }"
    [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
    printf '%s\n' "${fields[19]}"
}

# process_begin PIDFILE LOG COMMAND...: starts COMMAND in a session of its own, detached from ours.
process_begin() {
    local pid_file=$1 log=$2 pid
    shift 2
    # The descriptors of locks that our callers hold (8, 9) are not for the child, which would keep them locked.
    setsid "$@" >>"$log" 2>&1 </dev/null 8>&- 9>&- &
    pid=$!
    printf '%s %s\n' "$pid" "$(process_start_time "$pid" || echo 0)" >"$pid_file"
}

# process_lives PIDFILE: whether the process that it names still runs.
process_lives() {
    local pid started
    [[ -r $1 ]] || return 1
    read -r pid started <"$1" || return 1
    [[ $(process_start_time "$pid") == "$started" ]]
}

# process_signal SIGNAL PIDFILE: signals the process, if it is still ours.
process_signal() {
    local pid started
    process_lives "$2" || return 0
    read -r pid started <"$2"
    kill "-$1" "$pid" 2>/dev/null || true
}

# processes_end SECONDS PIDFILE...: TERM for all, KILL for those that are left after SECONDS; removes the files.
processes_end() {
    local seconds=$1 pid_file
    shift
    for pid_file; do process_signal TERM "$pid_file"; done
    wait_until "$seconds" none_lives "$@" || true
    for pid_file; do process_signal KILL "$pid_file"; done
    wait_until 5 none_lives "$@" || complain "still running after SIGKILL: $(cat "$@" 2>/dev/null)"
    rm -f -- "$@"
}

none_lives() {
    local pid_file
    for pid_file; do
        if process_lives "$pid_file"; then return 1; fi
    done
}

# wait_until SECONDS COMMAND...: runs COMMAND until it succeeds; fails after SECONDS.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS <= deadline)) || return 1
        sleep 0.05
    done
}

complain() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# fail MESSAGE [HINT]: says what went wrong and what to do, and ends the script.
fail() {
    complain "$1"
    [[ -z ${2:-} ]] || printf 'hint: %s\n' "$2" >&2
    exit 1
}
