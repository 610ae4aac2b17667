# shellcheck shell=bash disable=SC2154 # $state is set by whoever sources this.
# What this host needs to have: Debian packages and a Docker daemon. To be sourced, after processes.sh; needs
# $state, the folder that remembers what we installed and started.

# as_root COMMAND...: runs it as root, through sudo for others who may use it without a password.
as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
    ((EUID == 0)) || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

# install_missing COMMAND:PACKAGE...: installs the packages of commands that are not there.
install_missing() {
    local pair
    local -a packages=()
    for pair; do
        has_command "${pair%%:*}" || packages+=("${pair#*:}")
    done
    ((${#packages[@]})) || return 0
    can_be_root || fail "not installed: ${packages[*]}" "ask an administrator for: apt-get install ${packages[*]}"
    command -v apt-get >/dev/null ||
        fail "not installed: ${packages[*]}" 'this host has no apt-get; install what these Debian packages hold'
    echo "    installing ${packages[*]} (Debian packages)"
    mkdir -p "$state"
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${packages[@]}"
    } </dev/null >"$state/apt.log" 2>&1 || {
        tail -n 20 "$state/apt.log" >&2
        fail "apt-get cannot install ${packages[*]}" "the whole output is in $state/apt.log"
    }
    printf '%s\n' "${packages[@]}" >>"$state/installed"
}

# Daemons are in folders that ordinary users have not on their PATH.
has_command() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

docker_answers() { docker version >/dev/null 2>&1; }

# ensure_docker: a Docker daemon that answers us; installs and starts it where we may.
ensure_docker() {
    if command -v docker >/dev/null && docker_answers; then return; fi
    install_missing docker:docker.io dockerd:docker.io iptables:iptables
    if docker_answers; then return; fi # The package has started it.
    if ((EUID != 0)); then
        fail "Docker does not answer $(id -un)" \
            "start it, or let an administrator add you to its group: usermod -aG docker $(id -un) (then log in again)"
    fi
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker
    else
        echo '    starting dockerd (this host has no init system that would)'
        forget_killed_docker
        process_begin "$state/dockerd.pid" "$state/dockerd.log" dockerd
    fi
    if ! wait_until 60 docker_answers; then
        tail -n 20 "$state/dockerd.log" >&2 2>/dev/null || true
        fail 'dockerd does not answer' "its whole output is in $state/dockerd.log"
    fi
}

# forget_killed_docker: removes the pid files of a Docker that was killed. Where nobody has reaped it yet, or its number
# went to another process, the next one would take the file's word that it still runs.
forget_killed_docker() {
    local file pid
    for file in /run/docker.pid /run/docker/containerd/containerd.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        if ! grep -qsE '^(dockerd|containerd)$' "/proc/$pid/comm" || grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"; then
            rm -f -- "$file"
        fi
    done
}

# end_docker: ends the daemon, if it was us who started it, and its containerd with it.
end_docker() {
    [[ -e $state/dockerd.pid ]] || return 0
    processes_end 30 "$state/dockerd.pid"
}
