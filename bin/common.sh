# What bin/up, bin/down and bin/test share. Sourced, never run.
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
fail() {
  stop_ticking
  printf 'error: %s\n' "$1" >&2
  shift
  for hint in "$@"; do printf 'hint: %s\n' "$hint" >&2; done
  exit 1
}

# Fails after the end of a log, the rest of which stays where it is.
fail_showing() { # LOG WHAT
  stop_ticking
  tail -n 40 "$1" >&2
  fail "$2" "the whole log: $1"
}

# Which of our roads to root there is: root, sudo, none. Who has sudo and a password is asked for it, on a terminal.
root_by() {
  if [ "$(id -u)" = 0 ]; then
    say root
  elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || may_sudo; }; then
    say sudo
  else
    say none
  fi
}
may_sudo() {
  [ -t 0 ] && [ -t 2 ] || return 1
  # Asks for a password where one is needed.
  sudo -v || { note "Going on without root: apps are not kept apart, and nothing is installed."; return 1; }
}

# A line that is alive while something takes long: on a terminal it counts the seconds, and says how far apt-get is that
# writes to LOG. Others see it once.
working() { # WHAT [LOG]
  since=$SECONDS
  if [ -t 2 ]; then
    # It ends with us, however we end.
    (while kill -0 $$ 2>/dev/null; do
      printf '\r\033[K%s%s  %s s' "$1" "$([ -z "${2:-}" ] || how_far "$2")" $((SECONDS - since)) >&2 && sleep 1
    done) &
    ticker=$!
    trap stop_ticking EXIT
  else
    say "$1"
  fi
}
worked() {
  stop_ticking
  trap - EXIT
  say "$1  $((SECONDS - since)) s"
}
stop_ticking() {
  [ -n "${ticker:-}" ] || return 0
  kill "$ticker" 2>/dev/null || true
  # Bash would say that it was killed.
  wait "$ticker" 2>/dev/null || true
  ticker=''
  printf '\r\033[K' >&2
}

# How far apt-get is, by what it said: each package is fetched, unpacked and set up.
how_far() { # LOG
  awk '
    /^Waiting for cache lock|^E: Could not get lock/ { waits = 1 }
    / newly installed, / { waits = 0; all = $1 + $3 }
    /^(Get:|Unpacking |Setting up )/ { done++ }
    END { if (waits) printf ": waiting for another installation"; else if (all) printf ": %d %%", (done < 3 * all ? done * 100 / (3 * all) : 100) }
  ' "$1" 2>/dev/null
}

as_root() {
  case $ROOT_BY in
    root) "$@" ;;
    sudo) sudo "$@" ;;
    none) fail "this needs root: $*" ;;
  esac
}

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# The Debian packages that are missing of `test package` pairs on standard input. A test is a command's name, or a
# shell line after `!`.
missing_packages() {
  local line test
  while IFS= read -r line; do
    # A shell line may have a pipe in it.
    test=${line%|*}
    case $test in
      '') continue ;;
      !*) sh -c "${test#!}" >/dev/null 2>&1 || say "${line##*|}" ;;
      *) has "$test" || say "${line##*|}" ;;
    esac
  done | sort -u
}

# What packages bring, a line each: themselves, and the users and groups that their scripts add.
installed() {
  {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed /package /p'
    sed -n 's/^\([^:]*\):.*/package-user \1/p' /etc/passwd
    sed -n 's/^\([^:]*\):.*/package-group \1/p' /etc/group
  } | sort -u
}

# Says to the packages' own scripts that no service may be started, while they are installed (invoke-rc.d(8)).
POLICY=/usr/sbin/policy-rc.d
start_nothing() {
  [ ! -e "$POLICY" ] || return 0
  printf '#!/bin/sh\nexit 101 # shipway\n' | as_root tee "$POLICY" >/dev/null
  as_root chmod 755 "$POLICY"
}
start_again() { ! grep -qs '^exit 101 # shipway$' "$POLICY" || as_root rm -f "$POLICY"; }

# apt-get without questions; what it says goes to the file that is named first. Another one that holds its locks, as a
# fresh machine's own updates do, is waited for: the option does that for dpkg's lock alone.
APT_PATIENCE_SECONDS=600
apt_get() {
  local log=$1 patience=$((SECONDS + APT_PATIENCE_SECONDS))
  shift
  until as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
    apt-get -y -q -o "DPkg::Lock::Timeout=$APT_PATIENCE_SECONDS" "$@" >"$log" 2>&1; do
    grep -q '^E: Could not get lock' "$log" && [ $SECONDS -lt $patience ] || return 1
    sleep 2
  done
}

# Installs Debian packages and prints everything that came with them, as `installed` does. What apt-get says goes to LOG,
# which is removed when all went well.
install_packages() { # LOG PACKAGE...
  local log=$1 before after
  shift
  before=$(mktemp) after=$(mktemp)
  installed >"$before"
  start_nothing
  trap start_again EXIT
  if ! apt_get "$log" install --no-install-recommends "$@"; then
    # On a fresh machine there are no lists of packages yet.
    apt_get "$log" update || fail_showing "$log" "the package lists could not be refreshed"
    apt_get "$log" install --no-install-recommends "$@" ||
      fail_showing "$log" "these packages could not be installed: $*"
  fi
  start_again
  trap - EXIT
  installed >"$after"
  comm -13 "$before" "$after"
  rm -f "$before" "$after" "$log"
}

# Says to PostgreSQL's packages, before they are installed, that they need not make a database server of their own: ours
# is made in the data directory when the first database is wanted. Prints everything that it made for that.
NO_CLUSTER=/etc/postgresql-common/createcluster.d/shipway.conf
no_cluster_of_the_packages() {
  local directory
  for directory in /etc/postgresql-common "$(dirname "$NO_CLUSTER")"; do
    [ -d "$directory" ] || say "empty-directory $directory"
    as_root mkdir -p "$directory"
  done
  say "file $NO_CLUSTER"
  say 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
}

# What builds and dynos of PHP apps need, as `test|package` lines: the extensions are those that frameworks ask for.
# Of Apache only the program: its package `apache2` would bring a server that runs.
php_packages() {
  local extension
  cat <<'LIST'
php|php-cli
!ls /usr/sbin/php-fpm*|php-fpm
composer|composer
nginx|nginx-light
!test -x /usr/sbin/apache2|apache2-bin
unzip|unzip
LIST
  for extension in bcmath curl intl mbstring pdo_mysql:mysql pdo_pgsql:pgsql pdo_sqlite:sqlite3 xml zip; do
    say "!php -m | grep -qx ${extension%:*}|php-${extension#*:}"
  done
}

# The services of packages that are to be installed: we want the programs alone.
services_of() {
  local package
  for package in "$@"; do
    case $package in
      nginx-light) say nginx.service ;;
      openssh-server) printf '%s\n' ssh.service ssh.socket ;;
      php-fpm) apt-cache depends php-fpm | sed -n 's/^ *Depends: \(php[0-9.]*-fpm\)$/\1.service/p' ;;
    esac
  done
}

# Keeps the services of these packages from being started, now and at boot. Prints every file that it wrote for that.
no_services_of_the_packages() {
  local service mask
  for service in $(services_of "$@"); do
    mask=/etc/systemd/system/$service
    [ ! -e "$mask" ] || continue
    as_root mkdir -p /etc/systemd/system
    as_root ln -s /dev/null "$mask"
    say "file $mask"
  done
}

# Where what was changed is written down, and the log and process id of the server that bin/up started.
state_directory() {
  if [ "$ROOT_BY" = none ]; then
    say "${XDG_STATE_HOME:-$HOME/.local/state}/shipway"
  else
    say /var/lib/shipway-up
  fi
}

default_home() {
  if [ "$ROOT_BY" = none ]; then
    say "${XDG_DATA_HOME:-$HOME/.local/share}/shipway"
  else
    say /var/lib/shipway
  fi
}

# Writes standard input to a file that may be root's.
write_file() {
  if [ "$ROOT_BY" = none ]; then cat >"$1"; else as_root tee "$1" >/dev/null; fi
}

if_root() { if [ "$ROOT_BY" = none ]; then "$@"; else as_root "$@"; fi; }

# The process id of the `shipway up` that bin/up started, when it still runs and is that.
running_up() {
  local pid
  pid=$(if_root cat "$STATE/pid" 2>/dev/null) || return 1
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  # Any other program may have the number by now.
  if_root cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' ' ' | grep -q 'shipway up ' || return 1
  say "$pid"
}

# The user that the parts run as which need no root: make_user HOME.
make_user() {
  as_root useradd --system --user-group --home-dir "$1" --no-create-home --shell /usr/sbin/nologin shipway
}
