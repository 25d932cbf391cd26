#!/usr/bin/env bash
# Remixes a library: every track from its stems, with the same gains for all tracks.
#
# May be run again after an interruption, or by cron when tracks were added: mixes that are newer than their stems are
# kept. Errors of single tracks go to stderr and do not stop the others. Exit codes: 0, 1 when tracks failed, 2 for wrong
# usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: remix-library.sh LIBRARY OUT STEM=GAIN...

  LIBRARY    a folder; each folder in it with .lat files is a track: LIBRARY/album/song/{bass,drums,vocals}.lat
  OUT        a folder; the mixes are written to OUT/album/song.lat
  STEM=GAIN  the gain of a stem in every track: vocals=-6dB, drums=0.5, choir=0; other stems keep their volume

A file named mixture.lat or mix.lat, as in MUSDB, is not a stem and is ignored.
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 3 ]; then usage >&2 && exit 2; fi
library=$1 out=$2
case $library in -*) library=./$library ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
shift 2
for gain in "$@"; do
  if ! [[ $gain =~ ^.+=([-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)(dB)?|-inf)$ ]]; then usage >&2 && exit 2; fi
done
library=${library%"${library##*[!/]}"} out=${out%"${out##*[!/]}"} # remove trailing slashes
if [ ! -d "$library" ]; then
  printf 'remix-library.sh: %s: no such folder\n' "$library" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$library" && pwd)"/*)
  printf 'remix-library.sh: %s lies in %s; name another OUT\n' "$out" "$library" >&2
  exit 2 ;;
esac

# All mixes in OUT have the same gains.
wanted=$(printf '%s\n' "$@")
if [ ! -e "$out/.gains" ]; then
  printf '%s\n' "$wanted" > "$out/.gains.$$" && mv "$out/.gains.$$" "$out/.gains"
elif [ "$(cat "$out/.gains")" != "$wanted" ]; then
  printf 'remix-library.sh: %s was made with other gains; name another OUT\n' "$out" >&2
  exit 2
fi

status=0 found=" " tracks=0
while IFS= read -r -d '' folder; do
  stems=() newest=
  for stem in "$folder"/*.lat; do
    if [ ! -f "$stem" ]; then continue; fi
    name=${stem##*/} factor=1
    name=${name%.lat}
    case $name in mixture | mix) continue ;; esac
    for gain in "$@"; do
      if [ "${gain%=*}" = "$name" ]; then factor=${gain##*=} found="$found$gain "; fi
    done
    stems+=("$stem:$factor")
    if [ -z "$newest" ] || [ "$stem" -nt "$newest" ]; then newest=$stem; fi
  done
  if [ ${#stems[@]} -eq 0 ]; then continue; fi
  tracks=$((tracks + 1))
  target=$out${folder#"$library"}.lat
  if [ -e "$target" ] && [ ! "$newest" -nt "$target" ]; then continue; fi # files appear under their name when complete
  mkdir -p "${target%/*}"
  code=0
  lincae mix --force -o "$target" -- "${stems[@]}" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
done < <(find -H "$library" -mindepth 1 -name '.*' -prune -o -type d -print0 | LC_ALL=C sort -z)
wait "$!" || status=1 # a folder could not be read

if [ "$tracks" -eq 0 ]; then
  printf 'remix-library.sh: %s contains no folder with stems\n' "$library" >&2
  exit 1
fi
for gain in "$@"; do
  case $found in *" $gain "*) ;; *)
    printf 'remix-library.sh: no track has a stem for %s\n' "$gain" >&2
    status=1 ;;
  esac
done
exit "$status"
