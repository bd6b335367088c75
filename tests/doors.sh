#!/usr/bin/env bash
# bin/up on a machine that never saw Shipway, a second time, an upgrade, a backup and its restore, as a service, by a user
# without root, and bin/down --purge, which leaves nothing.
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
pages=${SHIPWAY_TEST_PAGES:-$PWD/tests/pages}

scratch=$(mktemp -d /var/tmp/shipway-doors-XXXXXX)
chmod 711 "$scratch"
clean() {
  bin/down --purge --home "$scratch/data" >/dev/null 2>&1 || true
  umount /usr/bin /run /etc /usr/local/bin /var/lib "$scratch/over" 2>/dev/null || true
  rm -rf --one-file-system "$scratch"
}
trap clean EXIT
ip link set lo up
mkdir "$scratch/over"
mount -t tmpfs tmpfs "$scratch/over"
over() { # DIRECTORY, without its first slash: what changes in it goes with us
  local name=${1//\//-}
  mkdir "$scratch/over/$name" "$scratch/over/$name.work"
  mount -t overlay overlay -o "lowerdir=/$1,upperdir=$scratch/over/$name,workdir=$scratch/over/$name.work" "/$1"
}
for directory in etc usr/local/bin var/lib; do over "$directory"; done
mkdir "$scratch/release" "$scratch/home"
cp -R bin examples "$scratch/release/"
cp docs/operating.md "$scratch/"
cp "$SHIPWAY_BIN" "$scratch/release/shipway"
cd "$scratch/release"
export HOME=$scratch/home
unset SHIPWAY_HOME SHIPWAY_SERVER SSH_CONNECTION
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
touch "$scratch/file"
for wrong in '--listen foo' '--router-listen 127.0.0.1' '--listen 127.0.0.1:70000' '--domain -a.b' '--tier foo' '--cert /nowhere' \
  "--cert $scratch/file" '--toolchain /nowhere' "--toolchain $scratch/file" '--builds many' '--api-host a..b'; do
  # shellcheck disable=SC2086
  expect "what cannot work is refused before anything is changed: $wrong" refused bin/up --plan $wrong
  # shellcheck disable=SC2086
  expect "with what to do instead: $wrong" [ "$(bin/up --plan $wrong 2>&1 | cut -d: -f1 | tr '\n' ' ')" = 'error hint ' ]
done

echo '$ bin/up'
up --private-host git.example.internal --private-host ci.example.internal --dyno-size large=1024,cpu=200 | tee "$scratch/first"
expect "the page is there" grep -q 'hello is live' <(page)
expect "the dashboard is there" curl -fsSL --max-time 10 -o /dev/null http://127.0.0.1:5000/
expect "the admin's token is printed" grep -q 'admin token' "$scratch/first"
expect "no tunnel is named without ssh" [ "$(grep -c 'ssh -L' "$scratch/first")" = 0 ]

echo '$ chromium http://127.0.0.1:5000 http://hello.localhost:8080'
if [ -d "$pages/node_modules" ]; then
  token=$(sed -n 's/^ *admin token *\([^ ]*\) .*/\1/p' "$scratch/first")
  printf '%s\n' "[\"sign_in\",\"$token\"]" '["see","main","hello"]' '["open","http://hello.localhost:8080/"]' \
    '["see","body","hello is live"]' '["complaints"]' | (cd "$pages" && node drive.mjs http://127.0.0.1:5000) >"$scratch/seen"
  expect "dashboard and page open in a browser" [ "$(tail -n 1 "$scratch/seen")$(grep error "$scratch/seen")" = '{"ok":[]}' ]
else
  echo "left out: $pages has no modules (npm ci)"
fi

echo '$ bin/up   # again, over ssh'
before=$(dynos)
expect "the app has a dyno" [ -n "$before" ]
start=$SECONDS
SUDO_USER=ada SSH_CONNECTION='192.0.2.7 50000 203.0.113.5 2222' up | tee "$scratch/second"
expect "it takes 5 s at most" [ $((SECONDS - start)) -le 5 ]
expect "the tunnel is named that makes the addresses open there" \
  grep -qx '  your laptop  ssh -p 2222 -L 5000:127.0.0.1:5000 -L 8080:127.0.0.1:8080 ada@203.0.113.5' "$scratch/second"
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

echo '$ bin/up   # with what does not work'
for address in 192.0.2.7:5000 192.0.2.8:5000; do
  expect "an address of another machine is none to listen at" refused up --listen "$address"
done
up --listen 192.0.2.9:5000 >"$scratch/failed" 2>&1 || true
expect "what is wrong is said" grep -q 192.0.2.9 "$scratch/failed"
expect "and not what was wrong before" [ "$(grep -c '192.0.2.[78]' "$scratch/failed")" = 0 ]
up >/dev/null
expect "what did not work is not remembered" curl -fsSL --max-time 10 -o /dev/null http://127.0.0.1:5000/
expect "the app runs on as it was" [ "$before" = "$(dynos)" ]

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
shipway env --install >/dev/null 2>&1
expect "there is a heroku command" [ -x "$HOME/.shipway/bin/heroku" ]
bin/down --purge --home "$scratch/data"
expect "the heroku command is gone with what it leads to" gone "$HOME/.shipway/bin/heroku"
expect "git includes no settings of ours" [ -z "$(git config --global --get-all include.path || true)" ]
expect "bin/down tells of no data where there is none" grep -q "there is no data in $scratch/data" <(bin/down --home "$scratch/data")
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

echo '$ bin/up --service'
unit=/etc/systemd/system/shipway.service
mount -t tmpfs tmpfs /run
expect "without systemd there is none" refused up --service
mkdir -p /run/systemd/system
# In the place of systemd: notes what it is asked, starts and stops what the unit says.
cat >/usr/local/bin/systemctl <<SYSTEMCTL
#!/bin/sh
echo "\$*" >>"$scratch/asked-of-systemd"
pid=$scratch/service.pid
runs() { [ -e "\$pid" ] && kill -0 "\$(cat "\$pid")" 2>/dev/null; }
case \$1 in
  is-active) runs; exit ;;
  stop) ! runs || kill "\$(cat "\$pid")"; while runs; do sleep 0.1; done ;;
  start | restart)
    ! runs || exit 0
    eval "set -- \$(sed -n 's/^ExecStart=//p' $unit)"
    setsid --fork sh -c 'echo \$\$ >"\$1"; shift; exec "\$@"' sh "\$pid" "\$@" >/dev/null 2>&1 </dev/null
    ;;
esac
SYSTEMCTL
chmod 755 /usr/local/bin/systemctl
before=$(dynos)
bin/up --service --plan >"$scratch/plan"
expect "the unit is in the plan" grep -qx "  writes $unit and enables it" "$scratch/plan"
expect "which made none" gone "$unit"
mkdir "$scratch/two words"
up --service --buildpack-directory "$scratch/two words" >/dev/null
expect "the unit starts it with its options" \
  grep -q "^ExecStart=\"/usr/local/bin/shipway\" \"up\" .*\"--buildpack-directory\" \"$scratch/two words\"" "$unit"
expect "it comes back after a reboot" grep -qx 'enable --quiet shipway.service' "$scratch/asked-of-systemd"
! command -v systemd-analyze >/dev/null || expect "systemd takes the unit" systemd-analyze verify "$unit"
expect "the service runs" systemctl is-active
expect "the app runs on as it was" [ "$before" = "$(dynos)" ]
expect "and answers" grep -q 'hello is live' <(page)
: >"$scratch/asked-of-systemd"
up >/dev/null
expect "a service it stays, and nothing is restarted" [ "$(cat "$scratch/asked-of-systemd")" = 'start shipway.service' ]

echo '$ bin/down --purge   # what it did not make stays'
bin/down --purge
expect "the unit is gone" gone "$unit"
expect "and disabled" grep -qx 'disable --quiet shipway.service' "$scratch/asked-of-systemd"
expect "no service runs" refused systemctl is-active
expect "the restored data is there" [ -s "$scratch/data/shipway.db" ]
expect "and nothing else" [ -z "$(ls "$scratch/data/run/dynos"; nft list tables; pgrep -x shipway || true)" ]

echo '$ bin/up   # without root, and without npm'
rm -r "$scratch/data"
unset SHIPWAY_HOME
useradd --create-home --home-dir "$scratch/visitor" visitor
over usr/bin
rm -f /usr/bin/npm /usr/local/bin/npm
as_visitor() { setpriv --reuid=visitor --regid=visitor --clear-groups env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$scratch/visitor" "$@"; }
everything() { find "$scratch/visitor" ! -path "$scratch/visitor"; }
if as_visitor bwrap --unshare-user --ro-bind / / true; then
  before=$(everything)
  expect "a service needs root" refused as_visitor bin/up --service
  as_visitor bin/up --plan >"$scratch/plan"
  expect "what cannot be installed is in the plan" grep -qF '(cannot install, for want of root: npm)' "$scratch/plan"
  expect "the plan made nothing" [ "$before" = "$(everything)" ]
  as_visitor bin/up --detach </dev/null 2>&1 | tee "$scratch/visitors"
  expect "what is missing is said, with the command" grep -qx '  apt-get install --no-install-recommends npm' "$scratch/visitors"
  expect "and what it costs" grep -q 'without root *apps are not kept apart' "$scratch/visitors"
  expect "the page is there" grep -q 'hello is live' <(page)
  expect "nothing of it is root's" [ -z "$(find "$scratch/visitor" -user root)$(pgrep -u root -x shipway || true)" ]
  as_visitor bin/down --purge
  expect "nothing is left" [ "$before" = "$(everything)" ]
  expect "no process either" [ -z "$(pgrep -u visitor || true)" ]
else
  echo "left out: users without root may not make namespaces here"
fi
