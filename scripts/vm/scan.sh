# Finds whatever the disks hold, layer by layer: partitions, then what is assembled out of them, then file systems.

# Asks blkid what stands on $device; sets type label uuid usage table and ambivalent.
probe() {
  type="" label="" uuid="" usage="" table="" ambivalent=""
  blkid -p -o udev "$device" >/run/probe 2>/dev/null
  [ $? -ne 8 ] || ambivalent=1
  while IFS='=' read -r name value; do
    case "$name" in
      ID_FS_TYPE) type=$value ;;
      ID_FS_LABEL_ENC) label=$value ;;
      ID_FS_UUID_ENC) uuid=$value ;;
      ID_FS_UUID_SUB_ENC) uuid_sub=$value ;;
      ID_PART_TABLE_TYPE) table=$value ;;
    esac
  done </run/probe
}

# Devices still to be looked at, one line each: device|key|disks|partition|offset|size
queue=/run/queue
: >$queue
: >/run/seen
: >/run/members
: >/run/btrfs
add() { printf '%s\n' "$1" >>$queue; }

scan_all() {
  read_cmdline
  for sys in /sys/block/vd*; do
    [ -d "$sys" ] || continue
    serial=$(cat "$sys/serial")
    add_disk "${serial#disk}"
  done
  count=$(wc -l </run/disks 2>/dev/null || echo 0)
  [ "$count" -eq "$expected" ] || fail "$count disks are there, not $expected"
  rounds=0
  while [ -s $queue ] && [ $rounds -lt 6 ]; do
    rounds=$((rounds + 1))
    mv $queue /run/now
    : >$queue
    : >/run/ready
    while IFS='|' read -r device key disks partition offset size; do look_at; done </run/now
    while IFS='|' read -r device key disks partition offset size; do
      probe
      mount_device
    done </run/ready
    assemble_raid
    assemble_lvm
  done
  report_unused
}

read_cmdline() {
  expected=0
  for word in $(cat /proc/cmdline); do
    case "$word" in sendense.disks=*) expected=${word#*=} ;; esac
  done
}

# A disk, or its partitions: the boot sector of a file system can look like a partition table, blkid tells them apart.
add_disk() { # index
  name=${sys##*/}
  device="/dev/$name"
  echo "$1" >>/run/disks
  bytes=$(($(cat "$sys/size") * 512))
  probe
  found=""
  if [ -z "$type" ] || [ -n "$table" ]; then
    for part in "$sys/$name"*; do
      [ -f "$part/partition" ] || continue
      # of an extended partition the kernel shows two sectors; it holds no file system itself
      if [ "$table" = dos ] && [ "$(cat "$part/size")" -le 2 ]; then continue; fi
      found=1
      number=$(cat "$part/partition")
      add "/dev/${part##*/}|disk$1-p$number|$1|$number|$(($(cat "$part/start") * 512))|$(($(cat "$part/size") * 512))"
    done
  fi
  [ -n "$found" ] && return
  if [ -n "$table" ] && [ -z "$type" ]; then
    disks=$1 partition="" offset=0 size=$bytes key="disk$1"
    keys="$keys$key "
    report unsupported "" "the partition table ($table) is empty or of a kind that is not read"
    return
  fi
  add "$device|disk$1|$1||0|$bytes"
}

# Decides what to do with one device of the queue.
look_at() {
  case "$keys" in *" $key "*) ;; *) keys="$keys$key " ;; esac
  probe
  if [ -n "$ambivalent" ]; then
    report unsupported "" "several signatures contradict each other"
    return
  fi
  case "$type" in
    "") report empty "" "no known signature" ;;
    swap | swsuspend) report swap ;;
    linux_raid_member | LVM2_member) echo "$device|$key|$disks|$partition|$offset|$size|$type|$label|$uuid" >>/run/members ;;
    crypto_LUKS | BitLocker) unlock ;;
    btrfs) look_at_btrfs ;;
    *) echo "$device|$key|$disks|$partition|$offset|$size" >>/run/ready ;;
  esac
}

# Of a btrfs over several devices the first stands for all.
look_at_btrfs() {
  if grep -q -F "$uuid|" /run/btrfs; then
    echo "$uuid|$device|$uuid_sub" >>/run/btrfs
    report container "" "one of several devices of a btrfs"
    return
  fi
  echo "$uuid|$device|$uuid_sub" >>/run/btrfs
  echo "$device|$key|$disks|$partition|$offset|$size" >>/run/ready
}

# The numbers of the disks below a device, as 0,1
disks_of() { # name in /sys/class/block
  list_disks "$1" | sort -n -u | tr '\n' ',' | sed 's/,$//'
}
list_disks() {
  if [ -n "$(ls "/sys/class/block/$1/slaves" 2>/dev/null)" ]; then
    for slave in $(ls "/sys/class/block/$1/slaves"); do list_disks "$slave"; done
    return
  fi
  whole=$1
  [ ! -f "/sys/class/block/$1/partition" ] || whole=$(basename "$(dirname "$(readlink -f "/sys/class/block/$1")")")
  serial=$(cat "/sys/class/block/$whole/serial" 2>/dev/null)
  [ -z "$serial" ] || echo "${serial#disk}"
}

bytes_of() { echo $(($(cat "/sys/class/block/$1/size") * 512)); }
