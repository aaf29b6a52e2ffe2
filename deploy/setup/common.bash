# What deploy/install and deploy/uninstall have in common. Variables that they set first: role, prefix (as the installed machine sees it), stage (a folder
# that stands for /, or nothing), dry (1: only say what would be done).
# shellcheck shell=bash

fail() { printf 'gear: %s\n' "$*" >&2; exit 1; }
wrong() { printf 'gear: %s\nTry: %s --help\n' "$*" "$0" >&2; exit 2; }
# A line for each thing that changed, with a sign: + new, ~ changed, - removed, ! to be done by somebody.
changes=0
change() { changes=$((changes + 1)); printf '%s %s\n' "$1" "$2"; }
note() { printf '! %s\n' "$*"; }
# Runs a command, except in a dry run.
act() { [ "$dry" = 1 ] || "$@"; }

usage() { sed -n '2,/^set -/{/^set -/!s/^# \{0,1\}//p;}' "$0"; }

absolute() { case $2 in /*) ;; *) wrong "$1 takes an absolute path, not $2" ;; esac; }

common_option() {
  case $1 in
    --dry-run) dry=1 ;;
    --prefix=*) prefix=${1#*=}; absolute --prefix "$prefix"; prefix=${prefix%/} ;;
    --root=*) stage=${1#*=}; absolute --root "$stage"; stage=${stage%/} ;;
    *) return 1 ;;
  esac
}

# Whether this machine itself is meant, and whether its systemd runs.
live() { [ -z "$stage" ]; }
systemd_runs() { live && [ -d /run/systemd/system ]; }

service_of() { case $1 in manager) echo gear-manager ;; node) echo gear-driver ;; esac; }
config_of() { case $1 in manager) echo /etc/gear/manager.conf ;; node) echo /etc/gear/driver.conf ;; esac; }
default_root_of() { case $1 in manager) echo /var/lib/gear-manager ;; node) echo /var/lib/gear ;; esac; }

# said OPTION FILE: what a configuration says of an option.
said() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*//p" "$2" 2>/dev/null | tail -1; }
# Where the service keeps its data: what the installed configuration says, else the default.
data_root() {
  local folder
  folder=$(said root "$stage$(config_of "$role")")
  printf '%s\n' "${folder:-$(default_root_of "$role")}"
}

sum_of() { sha256sum "$1" | cut -d' ' -f1; }

# The record of what was installed for a role, a line each: "file PATH", "link PATH", "folder PATH", "conf PATH SUM", "edited PATH SUM", "user NAME". Paths are as the
# installed machine sees them.
record() { printf '%s/installed/%s\n' "$stage$prefix" "$1"; }
# What stayed when a role was taken off without --purge: lines of these kinds, and "data PATH". For the next install, or a later --purge.
leftover() { printf '%s/installed/%s.left\n' "$stage$prefix" "$1"; }
recorded() { [ -f "$(record "$role")" ] && grep -qxF "$1" "$(record "$role")"; }
# The sum that a line "KIND PATH SUM" has.
recorded_sum() { [ ! -f "$(record "$role")" ] || awk -v kind="$1" -v path="$2" '$1 == kind && $2 == path { print $3 }' "$(record "$role")" | tail -1; }
remember() {
  recorded "$1" && return
  act mkdir -p "$stage$prefix/installed"
  [ "$dry" = 1 ] || printf '%s\n' "$1" >>"$(record "$role")"
}
forget() {
  [ "$dry" = 0 ] && [ -f "$(record "$role")" ] || return 0
  grep -vF "$1" "$(record "$role")" >"$(record "$role").new" || true
  mv "$(record "$role").new" "$(record "$role")"
}
