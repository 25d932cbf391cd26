#!/usr/bin/env bash
# Minus-one tracks for practice: every track of a library with each of its stems left out once.
#
# Run it again after an interruption, or from cron when tracks were added: what is there and newer than its stems is
# left. Tracks that fail are told on stderr and stop nothing. Exit codes: 0, 1 when tracks failed, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: minus-one.sh LIBRARY OUT [wav|flac|ogg]

  LIBRARY       a folder; each folder in it that holds .lat files is a track: LIBRARY/song/{bass,drums,vocals}.lat
  OUT           a folder: OUT/song/minus-bass.lat and so on
  wav|flac|ogg  write audio, too, beside them
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2 && exit 2; fi
case ${3-wav} in wav | flac | ogg) ;; *) usage >&2 && exit 2 ;; esac
library=$1 out=$2 audio=${3-}
case $library in -*) library=./$library ;; esac # no option of anything
case $out in -*) out=./$out ;; esac
library=${library%"${library##*[!/]}"} out=${out%"${out##*[!/]}"} # without / at the end
if [ ! -d "$library" ]; then
  printf 'minus-one.sh: %s: no such folder\n' "$library" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$library" && pwd)"/*)
  printf 'minus-one.sh: %s lies in %s; name another OUT\n' "$out" "$library" >&2
  exit 2 ;;
esac

status=0 tracks=0
while IFS= read -r -d '' folder; do
  stems=() newest=
  for stem in "$folder"/*.lat; do
    if [ ! -f "$stem" ]; then continue; fi
    stems+=("$stem")
    if [ -z "$newest" ] || [ "$stem" -nt "$newest" ]; then newest=$stem; fi
  done
  if [ ${#stems[@]} -eq 0 ]; then continue; fi
  tracks=$((tracks + 1))
  if [ ${#stems[@]} -eq 1 ]; then
    printf 'minus-one.sh: %s has only one stem\n' "$folder" >&2
    status=1
    continue
  fi
  for left in "${stems[@]}"; do
    name=${left##*/}
    target=$out${folder#"$library"}/minus-$name
    if [ -e "$target" ] && [ ! "$newest" -nt "$target" ]; then continue; fi # it has its name when it is whole
    others=()
    for stem in "${stems[@]}"; do
      if [ "$stem" != "$left" ]; then others+=("$stem:1"); fi
    done
    mkdir -p "${target%/*}"
    code=0
    lincae mix --force -o "$target" -- "${others[@]}" || code=$?
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    if [ "$code" -eq 1 ]; then status=1; fi
  done
done < <(find -H "$library" -mindepth 1 -name '.*' -prune -o -type d -print0 | LC_ALL=C sort -z)
wait "$!" || status=1 # a folder could not be read

if [ "$tracks" -eq 0 ]; then
  printf 'minus-one.sh: %s holds no folder with .lat files\n' "$library" >&2
  exit 1
fi
if [ -n "$audio" ] && [ -n "$(find "$out" -name '*.lat' -print -quit)" ]; then
  code=0
  lincae decode --format "$audio" -o "$out/" -- "$out" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
fi
exit "$status"
