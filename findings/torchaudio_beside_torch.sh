#!/usr/bin/env bash
# torchaudio 2.11.1 declares torch>=2.11 and cannot be imported beside torch 2.11.0.
#
# `pip install 'torch==2.11.*' 'torchaudio==2.11.*'` takes torch 2.11.0 (the only 2.11) and torchaudio 2.11.1, `pip
# check` finds nothing wrong, and `import torchaudio` ends with an OSError about its shared library. torchaudio 2.11.0
# beside the same torch works. transformers imports torchaudio wherever it is installed, so that models of pictures
# fail with it. Python 3.11 on Linux, x86-64; about 3 GB of downloads. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
pip="$folder/env/bin/pip"
says() { "$folder/env/bin/python" -c 'import torchaudio; print("imported", torchaudio.__version__)' 2>&1 | tail -n 1 || true; }
"$pip" install --quiet 'torch==2.11.0' 'torchaudio==2.11.1' 2>/dev/null
"$pip" check
newer=$(says)
"$pip" install --quiet 'torchaudio==2.11.0' 2>/dev/null
older=$(says)
echo "torch 2.11.0, torchaudio 2.11.1: $newer"
echo "torch 2.11.0, torchaudio 2.11.0: $older"
[[ "$newer" == OSError* ]] && [[ "$older" == "imported 2.11.0"* ]]
