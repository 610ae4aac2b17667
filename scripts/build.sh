# shellcheck shell=bash disable=SC2154 # $repository is set by whoever sources this.
# Where the binaries come from. To be sourced, after processes.sh; needs $repository.
#
# CAPSTAN_BIN_DIR names a folder of ready binaries; without it cargo builds what is not up to date.

# shellcheck disable=SC2034 # For whoever sources this.
readonly product_packages=(capstan-server capstan-agent capstan-client)

# find_cargo: puts rustup's usual folder on PATH when cargo is not there (root by sudo, services).
find_cargo() {
    command -v cargo >/dev/null && return
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null ||
        fail 'cargo is not installed' 'install Rust from https://rustup.rs, or name ready binaries in CAPSTAN_BIN_DIR'
}

# built_folder PROFILE: where cargo leaves what it builds.
built_folder() {
    local target=${CARGO_TARGET_DIR:-$repository/target}
    [[ $target == /* ]] || target=$repository/$target
    printf '%s/%s\n' "$target" "$1"
}

# cargo_build PROFILE PACKAGE...: builds; cargo itself decides what is missing.
cargo_build() {
    local profile=$1 package
    shift
    local -a arguments=(build --locked)
    [[ $profile == debug ]] || arguments+=(--release)
    for package; do arguments+=(--package "$package"); done
    find_cargo
    (cd "$repository" && cargo "${arguments[@]}")
}

# require_built FOLDER FILE...: every file is there.
require_built() {
    local folder=$1 file
    shift
    for file; do
        [[ -e $folder/$file ]] || fail "$folder has no $file" 'build it, or unset CAPSTAN_BIN_DIR so that cargo does'
    done
}
