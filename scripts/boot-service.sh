#!/bin/bash
# Boots a real systemd in a container of its own, installs holdfast there by the words of docs/running.md, and looks at
# what a service manager and its users see: start, status, watchdog, reload, crash, hang, socket activation, roles, stop.
# Needs root, systemd-nspawn (package systemd-container), debootstrap, nsenter, a built checkout, and once the network.
# usage: scripts/boot-service.sh [FOLDER]   (FOLDER keeps the Debian tree between runs; default /var/tmp/holdfast-boot)
# HOLDFAST_DIST: a build to use instead of dist/. Ends with 0: all was as it should be, 1: something was not,
# 77: it cannot run here, with the reason.
set -u
checkout=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-/var/tmp/holdfast-boot}
dist=${HOLDFAST_DIST:-$checkout/dist}
tree=$folder/debian run=$folder/run
failed=0

skip() { echo "skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "this needs root"
for program in systemd-nspawn debootstrap nsenter; do
  command -v "$program" >/dev/null || skip "$program is not installed"
done
[ -e "$dist/src/cli/main.js" ] || skip "$dist holds no build: npm run build"

if [ ! -e "$tree/.complete" ]; then
  mkdir -p "$tree"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libstdc++6,procps bookworm "$tree" \
    http://deb.debian.org/debian >"$folder/debootstrap.log" 2>&1 || skip "debootstrap failed, see $folder/debootstrap.log"
  touch "$tree/.complete"
fi

# A layer over the tree takes what the run writes.
rm -rf "$run" && mkdir -p "$run/upper" "$run/work" "$run/root"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$run/upper,workdir=$run/work" "$run/root" ||
  skip "no overlay can be mounted on $folder"
systemd-nspawn -q -b -D "$run/root" --register=no --keep-unit --console=pipe --link-journal=no \
  --system-call-filter="fanotify_init fanotify_mark open_by_handle_at" --bind-ro="$checkout:/opt/holdfast" --bind-ro="$dist:/opt/holdfast/dist" \
  --bind-ro="$(readlink -f "$(command -v node)"):/usr/bin/node" </dev/null >"$run/console.log" 2>&1 &
container=$!
leader=
stop_all() {
  kill "$container" 2>/dev/null
  wait "$container" 2>/dev/null
  umount "$run/root"
}
trap stop_all EXIT

inside() { nsenter --target "$leader" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
shell() { inside bash -c "cd /opt/holdfast && $1"; }
# Waits at most $1 seconds for a command to succeed.
within() {
  local seconds=$1 started=$SECONDS
  shift
  until "$@" >/dev/null 2>&1; do
    [ $((SECONDS - started)) -lt "$seconds" ] || return 1
    sleep 0.2
  done
}
# check WORDS COMMAND: the command, in the container, succeeds within 20 s.
check() {
  if within 20 shell "$2"; then
    echo "ok      $1"
  else
    echo "NOT OK  $1: $2" && shell "$2" 2>&1 | tail -5
    failed=1
  fi
}
property() { shell "systemctl show holdfast -p $1 --value"; }

within 10 pgrep -P "$container" || skip "systemd-nspawn did not start: $(tail -1 "$run/console.log")"
leader=$(pgrep -P "$container")
within 60 inside systemctl is-system-running || skip "systemd did not come up: $(tail -1 "$run/console.log")"
echo "booted  $(inside systemctl --version | head -1), $(inside node --version)"

# The commands of the page itself. The limits of inotify are the host's: a container may not set them.
install=$(sed -n '/^Installed by hand/,/^The service runs/p' "$checkout/docs/running.md" |
  sed -n '/^```/,/^```/p' | grep -v '^```' | sed 's/&& sysctl .*/\&\& true/')
shell 'mkdir -p /srv/app /srv/more && useradd -m ann && useradd -m bob && useradd -m eve
  echo "{\"lights\": \"off\"}" >/srv/app/a.json && echo kept >/srv/app/b.txt && echo more >/srv/more/m
  chown ann:ann /srv/app/b.txt && chmod 4750 /srv/app/b.txt
  mkdir -p /etc/holdfast && printf "sources:\n  - /srv/app\n" >/etc/holdfast/holdfast.yaml'
started=$(date +%s%N)
shell "set -e
$install" >"$run/install.log" 2>&1 || { echo "NOT OK  the page's own commands:" && tail -5 "$run/install.log" && exit 1; }
echo "ok      installed by the words of docs/running.md, READY after $((($(date +%s%N) - started) / 1000000)) ms"

check "the service is active" "systemctl is-active holdfast"
check "systemctl status says what is protected" 'systemctl show holdfast -p StatusText | grep "Protecting 2 files of 1 source$"'
check "the socket unit made the socket, for root and the group" 'stat -c "%U:%G %a" /run/holdfast/api.sock | grep "^root:holdfast 660$"'
check "nothing is in the journal above info" '! journalctl -u holdfast -p warning --no-pager -q | grep .'
check "a deleted file of another user is back with owner and setuid bit" \
  'test -e /srv/app/gone || { rm /srv/app/b.txt; touch /srv/app/gone; }; stat -c "%U:%G %a" /srv/app/b.txt | grep "^ann:ann 4750$"'
check "a broken file is back" 'test -e /srv/more/broken || { echo "{" >/srv/app/a.json; touch /srv/more/broken; }; grep off /srv/app/a.json'

check "a reload takes another source" \
  'printf "sources:\n  - /srv/app\n  - /srv/more\n" >/etc/holdfast/holdfast.yaml && systemctl reload holdfast && holdfast status | grep "of 2 sources"'
check "a wrong configuration is refused, and the journal names line and key" \
  'printf "sources:\n  - /srv/app\n  - /srv/more\nrotatoin: {}\n" >/etc/holdfast/holdfast.yaml; ! systemctl reload holdfast &&
   systemctl is-active holdfast && journalctl -u holdfast -o cat | grep "holdfast.yaml:4:1 unknown key \"rotatoin\""'
check "SIGHUP with it is refused as an error of its own priority" \
  'systemctl kill -s HUP --kill-whom=main holdfast; sleep 1; journalctl -u holdfast -p err -o cat | grep config.refused'
shell 'printf "sources:\n  - /srv/app\n  - /srv/more\n" >/etc/holdfast/holdfast.yaml'

check "a member of the group speaks to it without any option" 'usermod -aG holdfast ann && runuser -u ann -- holdfast status | grep PROTECTED'
check "and makes backups, as a backup operator" 'runuser -u ann -- holdfast create --json | grep backup_id'
check "but does not remove them" 'runuser -u ann -- holdfast cleanup; test $? = 13'
check "another user is told that the socket is not theirs" 'runuser -u bob -- holdfast health; test $? = 20 -o $? = 13'

restarts=$(property NRestarts)
shell 'systemctl kill -s KILL --kill-whom=main holdfast'
check "after SIGKILL it is started anew" "test \$(systemctl show holdfast -p NRestarts --value) -gt $restarts && systemctl is-active holdfast"
check "and has forgotten nothing" 'holdfast status | grep "of 2 sources" && holdfast list | grep backup_'

shell 'mkdir -p /run/systemd/system/holdfast.service.d && printf "[Service]\nWatchdogSec=2s\n" >/run/systemd/system/holdfast.service.d/beat.conf
  systemctl daemon-reload && systemctl restart holdfast'
sleep 6
check "the watchdog is beaten: 6 s with WatchdogSec=2s" 'test $(systemctl show holdfast -p NRestarts --value) = 0 && systemctl is-active holdfast'
shell 'systemctl kill -s STOP --kill-whom=main holdfast'
check "a daemon that hangs is ended by the watchdog" 'journalctl -u holdfast -o cat | grep "Watchdog timeout (limit 2s)"'
check "and started anew" 'systemctl is-active holdfast && holdfast status | grep PROTECTED'
shell 'rm -r /run/systemd/system/holdfast.service.d && systemctl daemon-reload'

# The page's own drop-in. The container's root is an overlay, which may not tell who did what: a tmpfs can.
mkdir -p "$run/root/etc/systemd/system/holdfast.service.d"
sed -n '/^# Who removed or changed a file/,/^```/p' "$checkout/docs/running.md" | grep -v '^```' \
  >"$run/root/etc/systemd/system/holdfast.service.d/who.conf"
shell 'mkdir /srv/ram && mount -t tmpfs none /srv/ram && echo "in memory" >/srv/ram/x
  printf "sources:\n  - /srv/app\n  - /srv/ram\n" >/etc/holdfast/holdfast.yaml
  systemctl daemon-reload && systemctl restart holdfast'
check "with the drop-in the service starts" 'systemctl is-active holdfast && holdfast status | grep "ram  *protected"'
check "and tells who removed a file, which is back" \
  'test -e /srv/gone || { perl -e "unlink q(/srv/ram/x); sleep 2"; touch /srv/gone; }; test -e /srv/ram/x && holdfast incidents list --json | grep "by perl (process"'
shell 'rm -r /etc/systemd/system/holdfast.service.d; systemctl daemon-reload
  printf "sources:\n  - /srv/app\n  - /srv/more\n" >/etc/holdfast/holdfast.yaml; systemctl restart holdfast; umount /srv/ram'
check "without it nothing of it is left" 'systemctl is-active holdfast && holdfast status | grep "of 2 sources"'

stopping=$(date +%s%N)
shell 'systemctl stop holdfast.service' 2>/dev/null
echo "ok      stopped in $((($(date +%s%N) - stopping) / 1000000)) ms"
check "the stop was clean" 'systemctl show holdfast -p Result -p ExecMainStatus | tr "\n" " " | grep "Result=success ExecMainStatus=0"'
check "the socket still listens and the next command starts the service" 'holdfast status | grep PROTECTED && systemctl is-active holdfast'
check "a wrong configuration at the start is not tried again" \
  'echo "sources: 7" >/etc/holdfast/holdfast.yaml; systemctl restart holdfast; sleep 7; systemctl show holdfast -p ExecMainStatus -p ActiveState | tr "\n" " " | grep "ExecMainStatus=78 ActiveState=failed"'
check "systemd gives it 3.0 points of exposure at most" 'systemd-analyze security holdfast.service --no-pager --threshold=31 | grep "Overall exposure level"'
[ "${KEEP_JOURNAL:-}" = "" ] || shell 'journalctl -u holdfast --no-pager' >"$KEEP_JOURNAL"
exit $failed
