# What is told to the host: one JSON object per line. Text of the guest is never trusted.

say() { printf '%s\n' "$1" >&3; }

# A JSON string in quotes. Bytes beyond ASCII pass as they are; the host decides what is UTF-8.
json() {
  case "$1" in
    *[!A-Za-z0-9\ ._:/+,\(\)=@-]*)
      printf '%s' "$1" | awk 'BEGIN { ORS = ""; for (i = 1; i < 32; i++) code[sprintf("%c", i)] = sprintf("\\u%04x", i) }
        NR > 1 { out = out "\\u000a" }
        { n = length($0)
          for (i = 1; i <= n; i++) { c = substr($0, i, 1)
            if (c == "\\" || c == "\"") out = out "\\" c
            else if (c in code) out = out code[c]
            else out = out c } }
        END { print "\"" out "\"" }' ;;
    *) printf '"%s"' "$1" ;;
  esac
}

json_or_null() { if [ -n "$1" ]; then json "$1"; else printf null; fi; }

# A folder name made of what the guest calls a thing: harmless characters, never too long, never twice.
keys=" "
make_key() { # wanted; sets $key
  key=$(printf '%s' "$1" | tr -c 'A-Za-z0-9+_.-' '_' | cut -c 1-200)
  base=$key
  count=2
  while :; do
    case "$keys" in *" $key "*) key="$base-$count" && count=$((count + 1)) ;; *) break ;; esac
  done
  keys="$keys$key "
}

# The thing at hand is described by variables: key device disks partition offset size type label uuid.
# Label and uuid are as blkid encodes them: \xNN for whatever is not plain.
report() { # status degraded detail
  say "{\"type\":\"filesystem\",\"key\":\"$key\",\"disks\":[${disks:-}],\"partition\":${partition:-null},\"offset\":${offset:-0},\"size\":${size:-0},\"fs_type\":$(json_or_null "$type"),\"label\":$(json_or_null "$label"),\"uuid\":$(json_or_null "$uuid"),\"status\":\"$1\",\"degraded\":$(json_or_null "${2:-}"),\"detail\":$(json_or_null "${3:-}")}"
}

# The last words of a program, short enough for one line.
words_of() { tail -n 4 "$1" | tr '\n' ' ' | cut -c 1-300; }
