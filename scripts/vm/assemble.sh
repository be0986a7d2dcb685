# What is made out of several devices or hidden in one: md RAID, LUKS, LVM.

# Tries each passphrase on $device; its content becomes <key>-luks.
unlock() {
  container=$key
  kind=luks
  [ "$type" = crypto_LUKS ] || kind=bitlk
  name="$container-$kind"
  if [ -z "$passphrases" ]; then
    report locked "" "it is encrypted, and no passphrase was given"
    return
  fi
  for secret in $passphrases; do
    # printf is part of the shell: the passphrase is on no command line
    if printf '%s' "$secret" | base64 -d |
      cryptsetup open --type "$kind" --key-file - --disable-external-tokens "$device" "$name" 2>/run/unlock.log; then
      report container "" "unlocked"
      inner=dm-$(dmsetup info -c --noheadings -o minor "$name")
      make_key "$name"
      add "/dev/mapper/$name|$key|$disks|$partition|$offset|$(bytes_of "$inner")"
      return
    fi
    grep -q -i -E 'memory|not enough' /run/unlock.log && break
  done
  if grep -q 'No key available' /run/unlock.log || ! [ -s /run/unlock.log ]; then
    report locked "" "none of the passphrases opens it"
  else
    report locked "" "none of the passphrases opens it: $(words_of /run/unlock.log)"
  fi
}

# Starts every md array of the members seen so far. A resync would write as much as the disks hold: it is frozen.
assemble_raid() {
  grep -q '|linux_raid_member|' /run/members || return 0
  [ -d /sys/module/md_mod ] || modprobe -q md-mod
  echo 1 >/sys/module/md_mod/parameters/start_ro 2>/dev/null
  cut -d '|' -f 1,7 /run/members | sed -n 's/|linux_raid_member$//p' >/run/raid-devices
  { echo "DEVICE $(tr '\n' ' ' </run/raid-devices)"; echo 'HOMEHOST <ignore>'; echo 'AUTO +all'; } >/run/mdadm.conf
  mdadm --examine --scan --config=/run/mdadm.conf 2>/dev/null | grep '^ARRAY' >>/run/mdadm.conf
  # --run: also when members are missing, as of a mirror of which one disk was backed up
  mdadm --assemble --scan --run --config=/run/mdadm.conf >/run/mdadm.log 2>&1
  for array in /sys/block/md*; do
    [ -f "$array/md/level" ] || continue
    name=${array##*/}
    grep -q -x "$name" /run/seen && continue
    [ "$(cat "$array/size")" -gt 0 ] || continue
    echo "$name" >>/run/seen
    echo frozen >"$array/md/sync_action" 2>/dev/null
    title=$(mdadm --detail --export "/dev/$name" 2>/dev/null | sed -n 's/^MD_NAME=//p' | sed 's/^.*://')
    [ -n "$title" ] || title=${name#md}
    make_key "md-$title"
    add "/dev/$name|$key|$(disks_of "$name")|||$(bytes_of "$name")"
    ls "$array/slaves" >>/run/used
  done
}

# Activates the volume groups of the members seen so far, except where names or members are ambiguous.
assemble_lvm() {
  grep -q '|LVM2_member|' /run/members || return 0
  members=$(grep -c '|LVM2_member|' /run/members)
  [ "$members" != "${lvm_members:-0}" ] || return 0
  lvm_members=$members
  modprobe -q dm-mod
  lvm vgs --noheadings --separator '|' -o vg_name,vg_uuid,vg_missing_pv_count 2>/run/lvm.log | tr -d ' ' >/run/vgs
  lvm pvs --noheadings --separator '|' -o pv_name,vg_name 2>/dev/null | tr -d ' ' >/run/pvs
  lvm_duplicates=""
  ! grep -q 'multiple devices\|Not using device' /run/lvm.log || lvm_duplicates=1
  while IFS='|' read -r vg vg_uuid missing; do
    is_certain "$vg" || continue
    lvm vgchange -K -ay --activationmode degraded --select "vg_uuid=$vg_uuid" >"/run/vg-$vg.log" 2>&1 </dev/null
  done </run/vgs
  lvm vgmknodes >/dev/null 2>&1
  lvm lvs --noheadings --separator '|' --units b --nosuffix -o vg_name,lv_name,lv_size,lv_attr,lv_dm_path,lv_kernel_minor 2>/dev/null |
    tr -d ' ' >/run/lvs
  while IFS='|' read -r vg lv bytes attributes path minor; do
    [ -n "$lv" ] && is_certain "$vg" || continue
    # the pools themselves hold no file system
    case "$attributes" in t* | d*) continue ;; esac
    grep -q -x "lvm $vg/$lv" /run/seen && continue
    echo "lvm $vg/$lv" >>/run/seen
    make_key "lvm-$vg-$lv"
    disks="" partition="" offset=0 size=$bytes type="" label="" uuid=""
    if [ "$minor" = -1 ] || ! [ -b "/dev/dm-$minor" ]; then
      disks=$(disks_of_group "$vg")
      missing=$(sed -n "s/^$vg|[^|]*|//p" /run/vgs)
      if [ "${missing:-0}" -gt 0 ]; then report failed "" "$missing of the disks of its volume group $vg are not here"
      else report failed "" "the logical volume cannot be activated: $(words_of "/run/vg-$vg.log")"; fi
      continue
    fi
    add "/dev/dm-$minor|$key|$(disks_of "dm-$minor")|||$bytes"
  done </run/lvs
}

# Whether it is clear which volumes a name means.
is_certain() { [ -z "$lvm_duplicates" ] && [ "$(grep -c "^$1|" /run/vgs)" -eq 1 ]; }

# The numbers of the disks that are here of a volume group, as 0,1
disks_of_group() {
  sed -n "s/|$1\$//p" /run/pvs | while read -r member; do list_disks "$(basename "$member")"; done |
    sort -n -u | tr '\n' ',' | sed 's/,$//'
}

# At the end every member is told: what it belongs to, or why nothing came of it.
report_unused() {
  while IFS='|' read -r device key disks partition offset size type label uuid; do
    if [ "$type" = linux_raid_member ]; then
      if grep -q -x "${device##*/}" /run/used 2>/dev/null; then report container "" "member of a RAID array"
      else report failed "" "its RAID array cannot be started: $(words_of /run/mdadm.log)"; fi
      continue
    fi
    vg=$(awk -F '|' -v member="$device" '$1 == member { print $2 }' /run/pvs)
    if [ -n "$lvm_duplicates" ]; then
      report failed "" "several disks carry the same LVM volume: which of them is meant is not guessed"
    elif [ -z "$vg" ]; then report failed "" "no volume group uses it"
    elif ! is_certain "$vg"; then
      report failed "" "several volume groups are called $vg: which of them is meant is not guessed"
    else report container "" "part of the volume group $vg"; fi
  done </run/members
}
