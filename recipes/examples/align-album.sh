#!/usr/bin/env bash
# Brings the tracks of an album to one level.
#
# The level is that of the latents (lincae info --level): a gain of x dB moves it by x dB, and between different music
# it follows loudness roughly. Run it again after an interruption, or from cron when tracks were added: the level of
# the first run is kept, and tracks that are there and newer than their source are left. Tracks that fail are told on
# stderr and stop nothing. Exit codes: 0, 1 when tracks failed, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: align-album.sh ALBUM OUT [LEVEL]

  ALBUM  a folder of .lat files, which may have folders in it
  OUT    a folder; the same tracks come to it at one level
  LEVEL  dB, as in -3 or -3.5; by default the level of the softest track, so that none gets louder
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2 && exit 2; fi
album=$1 out=$2 level=${3-}
case $album in -*) album=./$album ;; esac # no option of anything
case $out in -*) out=./$out ;; esac
if [ -n "$level" ] && ! [[ $level =~ ^[-+]?[0-9]+([.][0-9]+)?$ ]]; then usage >&2 && exit 2; fi
album=${album%"${album##*[!/]}"} out=${out%"${out##*[!/]}"} # without / at the end
if [ ! -d "$album" ]; then
  printf 'align-album.sh: %s: no such folder\n' "$album" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$album" && pwd)"/*)
  printf 'align-album.sh: %s lies in %s; name another OUT\n' "$out" "$album" >&2
  exit 2 ;;
esac
export LC_ALL=C # awk's numbers have a point

# Prints the level of a track, dB; null for silence. A tag of that name is further in and comes later.
level_of() {
  lincae info --level --json -- "$1" | awk '/^ *"level": / && !seen { sub(/,$/, ""); print $2; seen = 1 }'
}

status=0 tracks=() levels=()
while IFS= read -r -d '' track; do
  if found=$(level_of "$track"); then
    tracks+=("$track") levels+=("$found")
  else
    status=1 # lincae said why
  fi
done < <(find -H "$album" -mindepth 1 -name '.*' -prune -o -type f -iname '*.lat' -print0 | sort -z)
wait "$!" || status=1 # a folder could not be read
if [ ${#tracks[@]} -eq 0 ]; then
  if [ "$status" -eq 0 ]; then printf 'align-album.sh: %s holds no .lat files\n' "$album" >&2; fi
  exit 1
fi

# What is in OUT has this level, or the folder is another one's.
if [ -e "$out/.level" ]; then
  kept=$(cat "$out/.level")
  if [ -n "$level" ] && awk "BEGIN { exit !($level != $kept) }"; then
    printf 'align-album.sh: %s was made at %s dB; name another OUT\n' "$out" "$kept" >&2
    exit 2
  fi
  level=$kept
else
  if [ -z "$level" ]; then
    level=$(printf '%s\n' "${levels[@]}" | awk '$1 != "null" && (least == "" || $1 < least) { least = $1 + 0 }
      END { printf "%.4f", least }')
  fi
  printf '%s\n' "$level" > "$out/.level.$$" && mv "$out/.level.$$" "$out/.level"
fi

for i in "${!tracks[@]}"; do
  track=${tracks[i]}
  target=$out/${track#"$album"/}
  if [ -e "$target" ] && [ ! "$track" -nt "$target" ]; then continue; fi # a track has its name when it is whole
  gain=0
  if [ "${levels[i]}" != null ]; then gain=$(awk "BEGIN { printf \"%.4f\", $level - ${levels[i]} }"); fi
  mkdir -p "${target%/*}"
  code=0
  lincae gain --db "$gain" --force -o "$target" -- "$track" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
done
exit "$status"
