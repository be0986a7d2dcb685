# What the parts of the proof share; they run as root in a Debian that systemd has just started. Each line on stdout is
# something that was seen.
set -Eeuo pipefail
export LC_ALL=C PAGER=cat
packages=/root/packages
fail() {
  trap - ERR
  echo "FAILED: $*" >&2
  systemctl status --no-pager -n 0 sendensed.service sendense-mountd.socket >&2 || true
  journalctl --no-pager -n 60 -u sendensed -u sendense-mountd -u sendense-agent -u 'sendense-backup@*' >&2 || true
  exit 1
}
trap 'fail "${BASH_SOURCE[0]##*/}, line $LINENO: $BASH_COMMAND"' ERR
saw() { echo "$*"; }
pid() { systemctl show -p MainPID --value "${1:-sendensed}"; }
# SECONDS COMMAND: until it is true
until_true() {
  local limit=$1 left=$(($1 * 5))
  shift
  until "$@"; do
    left=$((left - 1))
    if [ "$left" -le 0 ]; then fail "not within $limit s: $*"; fi
    sleep 0.2
  done
}
is_active() { systemctl is-active --quiet "${1:-sendensed}"; }
changed_from() { [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ] && is_active; }
backups() { sendense-ctl backup list --vm "${1:-web1}" -o json | grep -c '"status": *"completed"' || true; }
at_least() { [ "$(backups)" -ge "$1" ]; }
gone() { for path in "$@"; do if [ -e "$path" ]; then fail "$path is left"; fi; done; }
there() { for path in "$@"; do [ -e "$path" ] || fail "$path is not there"; done; }
now_ms() { date +%s%3N; }
# COMMAND: what it says, also on stderr, is shown only when it fails
quietly() { "$@" >/root/quietly.out 2>&1 || { cat /root/quietly.out >&2; fail "$*"; }; }
# FILE MIB RANDOM_MIB: a disk that the service may read
make_disk() {
  truncate -s "$2M" "$1"
  dd if=/dev/urandom of="$1" bs=1M count="$3" conv=notrunc status=none
  chmod 644 "$1"
}
# REFERENCE FILE: restored through the daemon and compared with what was backed up
restored_like() {
  install -d -o sendense /srv/restored
  rm -f /srv/restored/disk.img
  quietly sendense-ctl restore disk --backup-id "$1" --output /srv/restored/disk.img
  cmp "$2" /srv/restored/disk.img
  rm /srv/restored/disk.img
}
# a part that is run alone brings the package by itself
[ "${0##*/}" = tarball ] || [ "${0##*/}" = service ] || [ -e /usr/lib/sendense ] || quietly dpkg -i $packages/new.deb
