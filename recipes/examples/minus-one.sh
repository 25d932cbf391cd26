#!/usr/bin/env bash
# Minus-one tracks for practice: each track of a library, once without each of its stems.
#
# May be run again after an interruption, or by cron when tracks were added: results that are newer than their stems are
# kept. Errors of single tracks go to stderr and do not stop the others. Exit codes: 0, 1 when tracks failed, 2 for wrong
# usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: minus-one.sh LIBRARY OUT [wav|flac|ogg]

  LIBRARY       a folder; each folder in it with .lat files is a track: LIBRARY/song/{bass,drums,vocals}.lat
  OUT           a folder: OUT/song/minus-bass.lat and so on
  wav|flac|ogg  also write audio beside them

A file named mixture.lat or mix.lat, as in MUSDB, is not a stem: where there is one, stems are subtracted from it, so
that minus-bass plus bass is the mixture; where there is none, the other stems are added.
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2 && exit 2; fi
case ${3-wav} in wav | flac | ogg) ;; *) usage >&2 && exit 2 ;; esac
library=$1 out=$2 audio=${3-}
case $library in -*) library=./$library ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
library=${library%"${library##*[!/]}"} out=${out%"${out##*[!/]}"} # remove trailing slashes
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
  stems=() newest='' mixture=''
  for stem in "$folder"/*.lat; do
    if [ ! -f "$stem" ]; then continue; fi
    case ${stem##*/} in
      mixture.lat | mix.lat) mixture=$stem ;;
      *) stems+=("$stem") ;;
    esac
    if [ -z "$newest" ] || [ "$stem" -nt "$newest" ]; then newest=$stem; fi
  done
  if [ ${#stems[@]} -eq 0 ]; then continue; fi
  tracks=$((tracks + 1))
  if [ ${#stems[@]} -eq 1 ] && [ -z "$mixture" ]; then
    printf 'minus-one.sh: %s has only one stem\n' "$folder" >&2
    status=1
    continue
  fi
  for left in "${stems[@]}"; do
    name=${left##*/}
    target=$out${folder#"$library"}/minus-$name
    if [ -e "$target" ] && [ ! "$newest" -nt "$target" ]; then continue; fi # files appear under their name when complete
    mkdir -p "${target%/*}"
    code=0
    if [ -n "$mixture" ]; then
      lincae subtract --quality exact --force -o "$target" -- "$mixture" "$left:1" || code=$?
    else
      others=()
      for stem in "${stems[@]}"; do
        if [ "$stem" != "$left" ]; then others+=("$stem:1"); fi
      done
      lincae mix --force -o "$target" -- "${others[@]}" || code=$?
    fi
    if [ "$code" -gt 1 ]; then exit "$code"; fi
    if [ "$code" -eq 1 ]; then status=1; fi
  done
done < <(find -H "$library" -mindepth 1 -name '.*' -prune -o -type d -print0 | LC_ALL=C sort -z)
wait "$!" || status=1 # a folder could not be read

if [ "$tracks" -eq 0 ]; then
  printf 'minus-one.sh: %s contains no folder with stems\n' "$library" >&2
  exit 1
fi
if [ -n "$audio" ] && [ -n "$(find "$out" -name '*.lat' -print -quit)" ]; then
  code=0
  lincae decode --format "$audio" -o "$out/" -- "$out" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
fi
exit "$status"
