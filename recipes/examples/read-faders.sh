#!/usr/bin/env bash
# Turns the mixes of a library back into faders: for every track, the gains of its stems as an arrangement and as CSV.
#
# Stems that do not belong to their mixture (another take, another song) are named on stderr. May be run again after an
# interruption, or by cron when tracks were added: results that are newer than their stems are kept. Exit codes: 0, 1
# when tracks failed or stems do not belong, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: read-faders.sh LIBRARY OUT

  LIBRARY  a folder; each folder in it with mixture.lat (or mix.lat) and stems is a track
  OUT      a folder; OUT/song.yaml is for lincae render --allow-outside, OUT/song.csv for a spreadsheet
EOT
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -ne 2 ]; then usage >&2 && exit 2; fi
library=$1 out=$2
case $library in -*) library=./$library ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
library=${library%"${library##*[!/]}"} out=${out%"${out##*[!/]}"} # remove trailing slashes
if [ ! -d "$library" ]; then
  printf 'read-faders.sh: %s: no such folder\n' "$library" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$library" && pwd)"/*)
  printf 'read-faders.sh: %s lies in %s; name another OUT\n' "$out" "$library" >&2
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
  if [ -z "$mixture" ] || [ ${#stems[@]} -eq 0 ]; then continue; fi
  tracks=$((tracks + 1))
  target=$out${folder#"$library"}
  if [ -e "$target.yaml" ] && [ ! "$newest" -nt "$target.yaml" ]; then continue; fi
  mkdir -p "${target%/*}"
  code=0
  # The arrangement is written last: where it is, the CSV is, too.
  lincae faders --check --force --csv "$target.csv" -o "$target.yaml" -- "$mixture" "${stems[@]}" > /dev/null || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
done < <(find -H "$library" -mindepth 1 -name '.*' -prune -o -type d -print0 | LC_ALL=C sort -z)
wait "$!" || status=1 # a folder could not be read

if [ "$tracks" -eq 0 ]; then
  printf 'read-faders.sh: %s contains no folder with mixture.lat and stems\n' "$library" >&2
  exit 1
fi
exit "$status"
