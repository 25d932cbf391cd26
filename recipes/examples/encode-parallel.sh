#!/usr/bin/env bash
# Encodes a folder in several processes of GNU parallel, on this machine or on others that share the folder.
#
# Each process does the part of the files that `--shard` gives it by name. May be run again after an interruption, with
# any number of parts: what is finished is kept. Exit codes: 0, 1 when files failed, 2 for wrong usage.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: encode-parallel.sh IN OUT [PARTS]

  IN     a folder of audio
  OUT    a folder for the .lat files
  PARTS  how many processes; by default one for each core

On other machines too: PARALLEL='--sshlogin host1,host2 --wd .' encode-parallel.sh IN OUT 16
EOF
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
if [ $# -lt 2 ] || [ $# -gt 3 ]; then usage >&2 && exit 2; fi
in=$1 out=$2 parts=${3-$(nproc)}
case $parts in '' | 0* | *[!0-9]*) usage >&2 && exit 2 ;; esac
case $in in -*) in=./$in ;; esac # so that it is not taken for an option
case $out in -*) out=./$out ;; esac
if [ ! -d "$in" ]; then
  printf 'encode-parallel.sh: %s: no such folder\n' "$in" >&2
  exit 2
fi

code=0
seq "$parts" | parallel --quote --jobs "$parts" lincae encode "$in" -o "${out%/}/" --shard "{}/$parts" || code=$?
if [ "$code" -gt 0 ] && [ "$code" -le 100 ]; then code=1; fi # parallel counts the processes that failed
exit "$code"
