#!/bin/sh
# Installs Sendense out of its tarball, on a system without dpkg: ./install.sh [--uninstall]
# Settings, catalogue and backups that are there stay as they are, also with --uninstall.
set -eu
here=$(dirname "$(readlink -f "$0")")
[ "$(id -u)" -eq 0 ] || { echo "install.sh: only root can install. Try: sudo $0" >&2; exit 12; }
has_systemd() { [ -d /run/systemd/system ]; }

if [ "${1:-}" = --uninstall ]; then
  if has_systemd; then systemctl disable --now sendensed sendense-agent sendense-mountd.socket sendense-mountd || true; fi
  (cd "$here/files" && find . ! -type d ! -path './etc/*' -printf '%P\n') | while read -r file; do rm -f "/$file"; done
  rm -rf /usr/lib/sendense
  rm -f /usr/share/zsh/site-functions/_sendense-ctl
  # folders that are empty now, as dpkg does it
  (cd "$here/files" && find . -depth -mindepth 2 -type d ! -path './etc/*' ! -path './usr/lib/sendense*' -printf '%P\n') |
    while read -r folder; do rmdir "/$folder" 2>/dev/null || true; done
  if has_systemd; then systemctl daemon-reload; fi
  echo "Removed. /etc/sendense and /var/lib/sendense are left." >&2
  exit 0
fi
[ $# -eq 0 ] || { echo "usage: $0 [--uninstall]" >&2; exit 2; }

for tool in qemu-img qemu-storage-daemon nbdcopy ss sfdisk; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$tool" >/dev/null ||
    { echo "install.sh: $tool is missing. The file depends names the Debian packages of all tools." >&2; exit 21; }
done
settings=/etc/sendense/sendense.toml
kept=""
if [ -e "$settings" ]; then kept=$(mktemp) && cp -p "$settings" "$kept"; fi
# whole or not at all: the modules of an older version must not stay between the new ones
rm -rf /usr/lib/sendense.new
cp -r "$here/files/usr/lib/sendense" /usr/lib/sendense.new
if [ -d /usr/lib/sendense/build ]; then cp -r /usr/lib/sendense/build /usr/lib/sendense.new/; fi
rm -rf /usr/lib/sendense
mv /usr/lib/sendense.new /usr/lib/sendense
# into the folders of the system as they are, also where /lib is a link
tar -C "$here/files" --exclude ./usr/lib/sendense -c . | tar -C / --keep-directory-symlink --no-same-owner --no-overwrite-dir -x
# only the zsh of Debian looks into vendor-completions
if [ ! -e /etc/debian_version ] && [ -d /usr/share/zsh/site-functions ]; then
  install -m 644 "$here/files/usr/share/zsh/vendor-completions/_sendense-ctl" /usr/share/zsh/site-functions/
fi
if [ -n "$kept" ]; then
  cp "$settings" "$settings.new"
  cp -p "$kept" "$settings"
  rm -f "$kept"
  cmp -s "$settings" "$settings.new" && rm -f "$settings.new" || echo "Your $settings was kept; the new defaults are in $settings.new." >&2
fi
for user in sendense sendense-agent; do
  id "$user" >/dev/null 2>&1 ||
    useradd --system --user-group --home-dir "/var/lib/$user" --no-create-home --shell /usr/sbin/nologin "$user"
done
[ -d /var/lib/sendense ] || install -d -m 750 -o sendense -g sendense /var/lib/sendense
chown root:sendense /etc/sendense
chmod 750 /etc/sendense
install -d -m 700 -o sendense-agent -g sendense-agent /var/lib/sendense-agent
install -d -m 750 -o sendense -g sendense /run/sendense
install -d -m 710 -o root -g sendense /mnt/sendense
if has_systemd; then
  systemctl daemon-reload
  systemctl try-restart sendense-mountd.service sendensed.service sendense-agent.service || true
  echo "Installed. Start it with: systemctl enable --now sendense-mountd.socket sendensed" >&2
else
  echo "Installed. No systemd runs here; start it as the user sendense: sendensed" >&2
fi
