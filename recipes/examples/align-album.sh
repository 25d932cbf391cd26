#!/usr/bin/env bash
# Brings the tracks of an album to the same loudness.
#
# Loudness is what lincae stats estimates without decoding (LUFS, BS.1770), within about 0.1 LU of the encoded audio;
# --decode measures what is decoded, which is slow. May be run again after an interruption, or by cron when tracks were
# added: the loudness of the first run is kept, and so are results that are newer than their source. Errors of single
# tracks go to stderr and do not stop the others. Exit codes: 0, 1 when tracks failed, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: align-album.sh [--decode] ALBUM OUT [LUFS]

  ALBUM  a folder of .lat files, with or without subfolders
  OUT    a folder for the same tracks at the same loudness
  LUFS   the loudness, as in -16 or -18.5; default: that of the softest track, so that none gets louder
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
measure=()
if [ "${1-}" = --decode ]; then
  measure=(--decode)
  shift
fi
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2 && exit 2; fi
album=$1 out=$2 level=${3-}
case $album in -*) album=./$album ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
if [ -n "$level" ] && ! [[ $level =~ ^[-+]?[0-9]+([.][0-9]+)?$ ]]; then usage >&2 && exit 2; fi
album=${album%"${album##*[!/]}"} out=${out%"${out##*[!/]}"} # remove trailing slashes
if [ ! -d "$album" ]; then
  printf 'align-album.sh: %s: no such folder\n' "$album" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$album" && pwd)"/*)
  printf 'align-album.sh: %s lies in %s; name another OUT\n' "$out" "$album" >&2
  exit 2 ;;
esac
export LC_ALL=C # a decimal point in awk's numbers

# Prints the loudness of a track, LUFS; null for silence.
level_of() {
  lincae stats ${measure[@]+"${measure[@]}"} --json -- "$1" | awk '/^ *"lufs": / { sub(/,$/, ""); print $2 }'
}

status=0 tracks=() levels=()
while IFS= read -r -d '' track; do
  if found=$(level_of "$track"); then
    tracks+=("$track") levels+=("$found")
  else
    status=1 # lincae has said why
  fi
done < <(find -H "$album" -mindepth 1 -name '.*' -prune -o -type f -iname '*.lat' -print0 | sort -z)
wait "$!" || status=1 # a folder could not be read
if [ ${#tracks[@]} -eq 0 ]; then
  if [ "$status" -eq 0 ]; then printf 'align-album.sh: %s contains no .lat files\n' "$album" >&2; fi
  exit 1
fi

# All tracks in OUT have the same loudness.
if [ -e "$out/.level" ]; then
  kept=$(cat "$out/.level")
  if [ -n "$level" ] && awk "BEGIN { exit !($level != $kept) }"; then
    printf 'align-album.sh: %s was made at %s LUFS; name another OUT\n' "$out" "$kept" >&2
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
  if [ -e "$target" ] && [ ! "$track" -nt "$target" ]; then continue; fi # files appear under their name when complete
  gain=0
  if [ "${levels[i]}" != null ]; then gain=$(awk "BEGIN { printf \"%.4f\", $level - ${levels[i]} }"); fi
  mkdir -p "${target%/*}"
  code=0
  lincae gain --db "$gain" --force -o "$target" -- "$track" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
done
exit "$status"
