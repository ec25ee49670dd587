#!/usr/bin/env bash
# Builds one environment per peer under FOLDER, from the package index that pip is set to:
#   bash benchmarks/peers/setup.sh FOLDER [video2dataset|data-juicer|scenedetect|readers ...]
# About 6 GB, most of it the torch that video2dataset pins. The peers also call the `ffmpeg` program: install it first.
set -euo pipefail
cd "$(dirname "$0")"
folder=${1:?usage: setup.sh FOLDER [PEER ...]}
shift
peers=("$@")
[ ${#peers[@]} -gt 0 ] || peers=(scenedetect readers data-juicer video2dataset)
command -v ffmpeg > /dev/null || { echo "the peers need the program ffmpeg (apt-get install ffmpeg)" >&2; exit 2; }

make_environment() { # NAME REQUIREMENT...
    local name=$1
    shift
    [ -x "$folder/$name/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

mkdir -p "$folder"
for peer in "${peers[@]}"; do
    case $peer in
        # It asks for no release of pyarrow in particular, and does not run with the newest.
        video2dataset) make_environment video2dataset video2dataset==1.3.0 pyarrow==17.0.0 ;;
        # It imports aiohttp, and what its operators use, without requiring them.
        data-juicer) make_environment data-juicer py-data-juicer==1.6.1 aiohttp scenedetect-headless==0.7.2 ;;
        scenedetect) make_environment scenedetect scenedetect-headless==0.7.2 ;;
        readers) make_environment readers decord==0.6.0 ;;
        *) echo "no peer is called $peer" >&2; exit 2 ;;
    esac
done
