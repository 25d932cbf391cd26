#!/usr/bin/env bash
# Stems from mixes and their accompaniments: stem = mix - accompaniment, file by file of the same name.
#
# May be run again after an interruption, or by cron: finished files are checked and kept. Errors of single files go to
# stderr and do not stop the others. Exit codes: 0, 1 when files failed, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: extract-stems.sh MIXES ACCOMPANIMENTS OUT [wav|flac|ogg]

  MIXES, ACCOMPANIMENTS  folders of audio or of .lat files (if there are .lat files, only they are used) with the same
                         names but for the extensions: MIXES/a/b.flac goes with ACCOMPANIMENTS/a/b.wav
  OUT                    a folder; stems are written to OUT/stems, intermediate .lat files to OUT/latents
  wav|flac|ogg           also write the stems as audio, to OUT/audio
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 3 ] || [ $# -gt 4 ]; then usage >&2 && exit 2; fi
case ${4-wav} in wav | flac | ogg) ;; *) usage >&2 && exit 2 ;; esac
mixes=$1 accompaniments=$2 out=$3 audio=${4-}
case $mixes in -*) mixes=./$mixes ;; esac # so that it is not taken for an option
case $accompaniments in -*) accompaniments=./$accompaniments ;; esac
case $out in -*) out=./$out ;; esac
out=${out%"${out##*[!/]}"} # remove trailing slashes
for folder in "$mixes" "$accompaniments"; do
  if [ ! -d "$folder" ]; then
    printf 'extract-stems.sh: %s: no such folder\n' "$folder" >&2
    exit 2
  fi
  mkdir -p "$out"
  case $(cd -P -- "$out" && pwd)/ in "$(cd -P -- "$folder" && pwd)"/*)
    printf 'extract-stems.sh: %s lies in %s; name another OUT\n' "$out" "$folder" >&2
    exit 2 ;;
  esac
done

status=0
# Continues after failures of single files (exit code 1), ends at any other failure.
attempt() {
  local code=0
  "$@" || code=$?
  if [ "$code" -gt 1 ]; then exit "$code"; fi
  if [ "$code" -eq 1 ]; then status=1; fi
}

# Sets `lats` to a folder of .lat files: folder $1 itself, or its encoded audio.
latents() {
  lats=$1
  if [ -z "$(find -H "$1" -type f -iname '*.lat' -print -quit)" ]; then
    lats=$out/latents/$2
    attempt lincae encode -o "$lats/" -- "$1"
  fi
}

latents "$mixes" mixes
mixes=$lats
latents "$accompaniments" accompaniments
accompaniments=$lats
if [ ! -d "$mixes" ] || [ ! -d "$accompaniments" ]; then exit 1; fi # nothing could be encoded; lincae has said why

attempt lincae subtract -o "$out/stems/" -- "$mixes" "$accompaniments"
if [ -n "$audio" ] && [ -d "$out/stems" ] && [ -n "$(find "$out/stems" -name '*.lat' -print -quit)" ]; then
  attempt lincae decode --format "$audio" -o "$out/audio/" -- "$out/stems"
fi
exit "$status"
