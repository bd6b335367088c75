#!/usr/bin/env bash
# bin/up on a machine that never saw Shipway, a second time, an upgrade, a backup and its restore, and bin/down --purge,
# which leaves nothing.
# In namespaces of its own: what it writes in /etc, /usr/local/bin and /var/lib stays there and goes with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "$(id -u)" != 0 ]; then
  echo "a machine of its own needs root"
  exit 77
fi
if [ -z "${SHIPWAY_DOORS_INSIDE:-}" ]; then
  export SHIPWAY_DOORS_INSIDE=1
  exec unshare --mount --net --pid --fork --mount-proc --kill-child "$0"
fi
: "${SHIPWAY_BIN:?names the binary under test}"

scratch=$(mktemp -d /var/tmp/shipway-doors-XXXXXX)
chmod 711 "$scratch"
clean() {
  bin/down --purge --home "$scratch/data" >/dev/null 2>&1 || true
  umount /etc /usr/local/bin /var/lib "$scratch/over" 2>/dev/null || true
  rm -rf --one-file-system "$scratch"
}
trap clean EXIT
ip link set lo up
mkdir "$scratch/over"
mount -t tmpfs tmpfs "$scratch/over"
for directory in etc usr/local/bin var/lib; do
  name=${directory//\//-}
  mkdir "$scratch/over/$name" "$scratch/over/$name.work"
  mount -t overlay overlay -o "lowerdir=/$directory,upperdir=$scratch/over/$name,workdir=$scratch/over/$name.work" "/$directory"
done
mkdir "$scratch/release" "$scratch/home"
cp -R bin examples "$scratch/release/"
cp docs/operating.md "$scratch/"
cp "$SHIPWAY_BIN" "$scratch/release/shipway"
cd "$scratch/release"
export HOME=$scratch/home
unset SHIPWAY_HOME SHIPWAY_SERVER
rm -f /usr/local/bin/shipway
rm -rf /var/lib/shipway-up
! id shipway >/dev/null 2>&1 || userdel shipway

expect() { # WHAT COMMAND...
  local what=$1
  shift
  "$@" || { echo "not so: $what"; exit 1; }
}
page() { curl -fsS --max-time 10 --resolve hello.localhost:8080:127.0.0.1 http://hello.localhost:8080/; }
up() { bin/up --home "$scratch/data" --detach "$@" </dev/null; }
nobody_refused() { [ ! -s "$scratch/refused" ] || { cat "$scratch/refused"; return 1; }; }
gone() { [ ! -e "$1" ]; }
refused() { ! "$@" >/dev/null 2>&1; }
# Every dyno has a directory of its own, and another one after a restart.
dynos() { ls "$scratch/data/run/dynos"; }
forwarding=$(cat /proc/sys/net/ipv4/ip_forward)

missing=$(. bin/common.sh && printf '%s\n' 'sh|dash' 'no-such-program|one' '!echo pdo | grep -qx xml|two' '!echo pdo | grep -qx pdo|three' | missing_packages)
expect "what is missing is asked for by name" [ "$missing" = $'one\ntwo' ]

echo '$ bin/up --plan'
bin/up --plan --home "$scratch/data"
expect "the plan made nothing" gone /usr/local/bin/shipway
expect "the plan made no data" gone "$scratch/data"
expect "the plan added nobody" [ -z "$(getent passwd shipway || true)" ]

echo '$ bin/up'
up --private-host git.example.internal --private-host ci.example.internal --dyno-size large=1024,cpu=200 | tee "$scratch/first"
expect "the page is there" grep -q 'hello is live' <(page)
expect "the dashboard is there" curl -fsSL --max-time 10 -o /dev/null http://127.0.0.1:5000/
expect "the admin's token is printed" grep -q 'admin token' "$scratch/first"

echo '$ bin/up   # again'
before=$(dynos)
expect "the app has a dyno" [ -n "$before" ]
start=$SECONDS
up | tee "$scratch/second"
expect "it takes 5 s at most" [ $((SECONDS - start)) -le 5 ]
expect "the token is printed once" [ "$(grep -c 'admin token' "$scratch/second")" = 0 ]
expect "the app was not touched" [ "$before" = "$(dynos)" ]
given=$(tr '\0' ' ' <"/proc/$(cat /var/lib/shipway-up/pid)/cmdline")
expect "what was given is remembered, in its order" \
  grep -q -- '--private-host git.example.internal --private-host ci.example.internal --dyno-size large=1024,cpu=200' <<<"$given"

echo '$ sudo bin/up'
mkdir "$scratch/sudoer" && chown 65533:65533 "$scratch/sudoer"
as_sudoer() { setpriv --reuid=65533 --regid=65533 --clear-groups env HOME="$scratch/sudoer" XDG_CONFIG_HOME="$scratch/sudoer" "$@"; }
expect "who has no root is nobody here" refused as_sudoer shipway --home "$scratch/data" status
SUDO_UID=65533 up >/dev/null
expect "who has root is the administrator" as_sudoer shipway --home "$scratch/data" status
up >/dev/null
expect "and stays so" as_sudoer shipway --home "$scratch/data" status
expect "the app was not touched" [ "$before" = "$(dynos)" ]

echo '$ bin/up   # after its server was stopped'
kill -TERM "$(cat /var/lib/shipway-up/pid)"
for _ in $(seq 300); do
  pgrep -f 'shipway up ' >/dev/null || break
  sleep 0.1
done
expect "the app answers without its server" grep -q 'hello is live' <(page)
up >/dev/null
expect "the app runs on as it was" [ "$before" = "$(dynos)" ]
expect "and answers" grep -q 'hello is live' <(page)

echo '$ bin/up   # a newer binary'
printf '\0' >>"$scratch/release/shipway"
process=$(cat /var/lib/shipway-up/pid)
(
  # Somebody who asks the API all the while, with a connection each.
  while :; do
    curl -fsSL --max-time 10 -o /dev/null http://127.0.0.1:5000/ 2>>"$scratch/refused" || echo refused >>"$scratch/refused"
    echo asked >>"$scratch/asked"
  done
) &
visitor=$!
up >/dev/null
kill "$visitor"
expect "it is the newer one" cmp "$scratch/release/shipway" /usr/local/bin/shipway
expect "the process is still the same" [ "$process" = "$(cat /var/lib/shipway-up/pid)" ]
expect "and runs the newer one" [ "/proc/$process/exe" -ef /usr/local/bin/shipway ]
expect "the API was asked meanwhile" [ -s "$scratch/asked" ]
expect "and refused nobody" nobody_refused
expect "the app runs on as it was" [ "$before" = "$(dynos)" ]
expect "and answers" grep -q 'hello is live' <(page)

# The commands of the operator's page, as they stand there.
documented() {
  sed -n "/^<!-- $1 -->/,/^\`\`\`$/p" "$scratch/operating.md" | sed '1,2d;$d'
}
# Asks the API as the admin of this machine.
api() {
  local exports
  exports=$(shipway --home "$scratch/data" env --shell bash)
  (eval "$exports" && curl -fsS --max-time 10 -H "Authorization: Bearer $HEROKU_API_KEY" \
    -H 'Accept: application/vnd.heroku+json; version=3' -H 'Content-Type: application/json' "$@")
}
expect "dynos may have the size that was given" grep -q '"name":"Large"' <(api http://127.0.0.1:5000/dyno-sizes)
version() { api http://127.0.0.1:5000/apps/hello/releases | grep -o '"version":[0-9]*' | sort -t: -k2n | tail -n 1; }

echo '$ the backup of docs/operating.md'
export SHIPWAY_HOME=$scratch/data
api -o /dev/null -X PATCH -d '{"GREETING":"kept"}' http://127.0.0.1:5000/apps/hello/config-vars
for _ in $(seq 300); do
  # The release of the config var has replaced the dyno before it.
  [ "$(version)" = '"version":3' ] && [ "$(dynos | wc -l)" = 1 ] && [ "$(dynos)" != "$before" ] && break
  sleep 0.1
done
before=$(dynos) release=$(version)
(
  while :; do
    page >/dev/null || echo refused >>"$scratch/refused"
  done
) &
visitor=$!
(eval "$(documented backup)") >/dev/null
kill "$visitor"
expect "no visitor noticed" nobody_refused
expect "the app runs on as it was" [ "$before" = "$(dynos)" ]
expect "no secret is in the backup's main part" [ -z "$(tar -tf shipway-backup.tar | grep keys || true)" ]

echo '$ bin/down --purge'
bin/down --purge --home "$scratch/data"
expect "the data is gone" gone "$scratch/data"
expect "the binary is gone" gone /usr/local/bin/shipway
expect "the record is gone" gone /var/lib/shipway-up
expect "the user is gone" [ -z "$(getent passwd shipway || true)" ]
expect "no process is left" [ -z "$(pgrep -x shipway || true)" ]
expect "no interface is left" [ -z "$(ip -o link | grep ': sw' || true)" ]
expect "no firewall rule is left" [ -z "$(nft list tables)" ]
expect "packets are forwarded only if they were before" [ "$(cat /proc/sys/net/ipv4/ip_forward)" = "$forwarding" ]
expect "no mount is left" [ -z "$(grep -F "$scratch/data" /proc/self/mountinfo || true)" ]

echo '$ the restore of docs/operating.md, on a machine without Shipway'
(eval "$(documented restore)") | tee "$scratch/third"
expect "no sample is put among what was there" [ "$(grep -c Deploying "$scratch/third")" = 0 ]
expect "the page is there" grep -q 'hello is live' <(page)
expect "it is the same release" [ "$release" = "$(version)" ]
expect "config vars can be read" grep -q '"GREETING":"kept"' <(api http://127.0.0.1:5000/apps/hello/config-vars)

echo '$ bin/down --purge   # what it did not make stays'
bin/down --purge
expect "the restored data is there" [ -s "$scratch/data/shipway.db" ]
expect "and nothing else" [ -z "$(ls "$scratch/data/run/dynos"; nft list tables; pgrep -x shipway || true)" ]
