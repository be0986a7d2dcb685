# Mounting one device read-only. The disks are throw-away overlays: replay of a journal may write to them.

common=ro,nosuid,nodev,noexec

try_mount() { # driver options; the message of a failure goes to /run/mount.log
  mount -t "$1" -o "$2" "$device" "$place" 2>/run/mount.log && return 0
  dmesg | tail -n 3 | sed 's/^\[[^]]*\] *//' >>/run/mount.log
  return 1
}

# Mounts $device, which holds a file system of $type, and reports it.
mount_device() {
  place="/jail/guest/$key"
  mkdir -p "$place"
  degraded=""
  case "$type" in
    ext2 | ext3 | ext4) mount_replayed ext4 "$common,errors=remount-ro" noload ;;
    xfs) mount_replayed xfs "$common,nouuid" norecovery ;;
    btrfs) mount_replayed btrfs "$common,subvolid=5$(btrfs_members)" rescue=nologreplay ;;
    vfat) mount_plain vfat "$common,utf8=1,codepage=437,shortname=mixed" ;;
    exfat) mount_plain exfat "$common,iocharset=utf8" ;;
    iso9660) mount_plain iso9660 "$common,utf8" ;;
    udf) mount_plain udf "$common" ;;
    squashfs) mount_plain squashfs "$common" ;;
    erofs) mount_plain erofs "$common" ;;
    ntfs) mount_ntfs ;;
    *)
      rmdir "$place"
      report unsupported "" "$type cannot be mounted by this version"
      return
      ;;
  esac
}

mounted() { report mounted "$degraded" ""; }
not_mounted() {
  rmdir "$place"
  report failed "" "$(words_of /run/mount.log)"
}

mount_plain() {
  if try_mount "$1" "$2"; then mounted; else not_mounted; fi
}

mount_replayed() { # driver options without-replay
  if try_mount "$1" "$2"; then
    mounted
    return
  fi
  cp /run/mount.log /run/first.log
  if try_mount "$1" "$2,$3"; then
    degraded="journal not replayed"
    mounted
  else
    mv /run/first.log /run/mount.log
    not_mounted
  fi
}

# ntfs-3g has no replay at all: what Windows had not written back yet is missing.
mount_ntfs() {
  ntfs-3g.probe --readwrite "$device" 2>/run/mount.log
  case $? in
    14) degraded="Windows is hibernated in it: recent changes are missing" ;;
    15 | 16) degraded="it was not cleanly unmounted and its journal is not replayed" ;;
  esac
  if ntfs-3g -o "$common,streams_interface=none" "$device" "$place" 2>/run/mount.log; then mounted; else not_mounted; fi
}

# A btrfs over several devices is mounted by naming all of them.
btrfs_members() {
  awk -F '|' -v uuid="$uuid" -v own="$device" '$1 == uuid && $2 != own { printf ",device=%s", $2 }' /run/btrfs 2>/dev/null
}
