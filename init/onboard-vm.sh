#!/bin/sh
# Set a bare machine up for meshdns, upgrade it, or take everything back. docs/vm.md says what is done.
#
#   onboard-vm.sh [WHEEL|SOURCE-FOLDER] [OPTION OF meshdns vm onboard]...
#   onboard-vm.sh --offboard
#
# Finds a Python, makes a virtual environment in /opt/meshdns, calls `meshdns vm onboard`. Without a wheel or folder: the source
# tree that this script stands in, else the package `meshdns`. A requirements.lock in the folder, or beside the wheel, is
# installed first, with its hashes, and nothing that it does not name. pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, …) count.
# Run again it changes nothing, or upgrades. Exits as meshdns does; 3 also where Python or pip fail.
set -eu
umask 022   # the resolver's user reads what is installed here
PATH=$PATH:/usr/sbin:/sbin
HOME_DIR=/opt/meshdns
MANIFEST=/etc/meshdns/onboarded.json
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONNOUSERSITE=1

fail() { echo "onboard-vm: $*" >&2; exit 3; }

main() {
  [ "$(id -u)" -eq 0 ] || fail "cannot change this machine: that takes root: run it with sudo"
  mkdir -p "$(dirname "$HOME_DIR")"
  exec 9<"$(dirname "$HOME_DIR")"
  flock -n 9 || fail "cannot begin: another onboard-vm.sh is at work on this machine"
  # What a run left that was killed between its two renames, or before them.
  if [ ! -e "$HOME_DIR" ] && [ -e "$HOME_DIR.old" ]; then mv "$HOME_DIR.old" "$HOME_DIR"; fi
  rm -rf "$HOME_DIR.new" "$HOME_DIR.old"

  if [ "${1:-}" = --offboard ]; then shift; offboard "$@"; else onboard "$@"; fi
}

onboard() {
  source=$(default_source)
  case "${1:-}" in
    '' | -*) ;;
    *)
      [ -e "$1" ] || fail "cannot install $1: no such wheel or folder"
      source=$(realpath "$1")   # a name without a slash would be one of pip's index
      shift
      ;;
  esac
  is_first=true
  [ ! -e "$HOME_DIR" ] || is_first=false
  stamp=$(stamp_of "$source")
  if [ -z "$stamp" ] || [ "$stamp" != "$(cat "$HOME_DIR/installed-from" 2>/dev/null)" ] || ! works; then
    if ! $is_first && is_dry_run "$@"; then
      echo "would replace $HOME_DIR by $source"
    else
      install_aside "$source" "$stamp"
      move_in
    fi
  fi
  code=0
  "$HOME_DIR/bin/meshdns" vm onboard "$@" || code=$?
  # Refused, taken back, or only a dry run: then nothing stays of a first installation.
  if $is_first && [ ! -e "$MANIFEST" ]; then
    rm -rf "$HOME_DIR"
  elif $is_first && [ "$code" -eq 0 ]; then
    echo "the command is $HOME_DIR/bin/meshdns: try it with \`vm status\`"
  fi
  exit "$code"
}

offboard() {
  if [ ! -e "$HOME_DIR" ] && [ ! -e "$MANIFEST" ]; then
    echo "nothing to do"
    return
  fi
  if works; then
    "$HOME_DIR/bin/meshdns" vm offboard "$@"
  elif [ -e "$MANIFEST" ]; then
    fail "cannot offboard: $HOME_DIR/bin/meshdns does not run: run this script with a wheel or folder once more, then with --offboard"
  fi
  if ! is_dry_run "$@"; then
    rm -rf "$HOME_DIR"
    echo "removed $HOME_DIR"
  fi
}

# Whether what is installed runs: a new release of the distribution brings another Python, which does not see it.
works() { "$HOME_DIR/bin/meshdns" --version >/dev/null 2>&1; }

is_dry_run() { case " $* " in *" --dry-run "*) ;; *) false ;; esac; }

default_source() {
  tree=$(cd "$(dirname "$0")/.." && pwd)
  if [ -e "$tree/pyproject.toml" ] && [ -e "$tree/requirements.lock" ]; then echo "$tree"; else echo meshdns; fi
}

# What a wheel's installation is known by; nothing for what cannot be told to be the same.
stamp_of() {
  [ -f "$1" ] || return 0
  lock=$(dirname "$1")/requirements.lock
  { cat "$1"; if [ -e "$lock" ]; then cat "$lock"; fi; } | sha256sum
}

# A virtual environment beside the one in use, complete before anybody sees it.
install_aside() {
  if [ -t 2 ]; then echo "making a virtual environment in $HOME_DIR …" >&2; fi
  new=$HOME_DIR.new
  trap 'rm -rf "$new"' EXIT
  python=$(find_python)
  "$python" -m venv "$new" || fail "cannot make a virtual environment with $python: see above"
  if [ -d "$1" ]; then lock=$1/requirements.lock; else lock=$(dirname "$1")/requirements.lock; fi
  dependencies=
  if [ -e "$1" ] && [ -e "$lock" ]; then
    pip install --no-deps --require-hashes -r "$lock"
    dependencies=--no-deps
  fi
  pip install $dependencies "$1"
  echo "$2" >"$new/installed-from"
  # From here on it speaks of itself as what it will be.
  grep -rlIF "$new/" "$new/bin" | xargs -r sed -i "s|$new/|$HOME_DIR/|g"
  grep -rlIF "$new" "$new/bin" "$new/pyvenv.cfg" | xargs -r sed -i "s|$new|$HOME_DIR|g"
  "$new/bin/python" -m compileall -q -s "$new" -p "$HOME_DIR" "$new/lib" || :   # a module that is no Python 3 is nobody's loss
}

pip() { "$new/bin/python" -m pip -q "$@" --no-compile || fail "cannot install meshdns: pip $1 failed: see above; nothing is changed"; }

move_in() {
  if [ -e "$HOME_DIR" ]; then mv "$HOME_DIR" "$HOME_DIR.old"; fi
  mv "$HOME_DIR.new" "$HOME_DIR"
  rm -rf "$HOME_DIR.old"
  trap - EXIT
}

find_python() {
  found=
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      found=$candidate
      if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then echo "$candidate"; return; fi
    fi
  done
  if [ -n "$found" ]; then
    version=$("$found" -c 'import sys; print("3.%d" % sys.version_info[1])')
    fail "$found has no ensurepip: on Debian and Ubuntu: apt-get install python$version-venv"
  fi
  fail "there is no Python 3.11 or newer: $(how_to_get_python)"
}

how_to_get_python() {
  distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}")
  case " $distribution " in
    *" ubuntu "*) echo "apt-get install python3 python3-venv, before 24.04 python3.11 python3.11-venv" ;;
    *" debian "*) echo "apt-get install python3 python3-venv, in Debian 12 or newer" ;;
    *" rhel "* | *" fedora "* | *" centos "*) echo "dnf install python3.11" ;;
    *suse* | *" sles "*) echo "zypper install python311" ;;
    *) echo "install the package that holds one" ;;
  esac
}

main "$@"
