#!/usr/bin/env bash
# Opens a finished mix on the desk: reads its faders back from the mix and its stems, then mixes on in the browser.
#
# The first call writes OUT/TRACK.yaml; later ones open it as it was saved. Exit codes: 0, 1 for failure, 2 for wrong
# usage.
set -euo pipefail

usage() {
  cat <<'EOT'
usage: reopen-mix.sh TRACK OUT [OPTION...]

  TRACK   a folder with mixture.lat (or mix.lat) and its stems
  OUT     a folder; OUT/TRACK.yaml holds the faders, what Save writes, and what lincae render --allow-outside renders
  OPTION  of lincae desk: --no-browser, --port 8000, --read-only
EOT
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 2 ]; then usage >&2 && exit 2; fi
track=$1 out=$2
shift 2
case $track in -*) track=./$track ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
track=${track%"${track##*[!/]}"} out=${out%"${out##*[!/]}"} # remove trailing slashes
if [ ! -d "$track" ]; then
  printf 'reopen-mix.sh: %s: no such folder\n' "$track" >&2
  exit 2
fi
mkdir -p "$out"
case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$track" && pwd)"/*)
  printf 'reopen-mix.sh: %s lies in %s; name another OUT\n' "$out" "$track" >&2
  exit 2 ;;
esac

song=$out/${track##*/}.yaml
if [ ! -e "$song" ]; then
  stems=() mixture=''
  for stem in "$track"/*.lat; do
    case ${stem##*/} in
      mixture.lat | mix.lat) mixture=$stem ;;
      '*.lat') ;;
      *) stems+=("$stem") ;;
    esac
  done
  if [ -z "$mixture" ] || [ ${#stems[@]} -eq 0 ]; then
    printf 'reopen-mix.sh: %s has no mixture.lat with stems\n' "$track" >&2
    exit 1
  fi
  lincae faders -o "$song" -- "$mixture" "${stems[@]}"
fi
exec lincae desk --allow-outside "$@" -- "$song"
