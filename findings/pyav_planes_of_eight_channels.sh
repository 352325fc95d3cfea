#!/usr/bin/env bash
# PyAV 18.1: a planar frame of eight channels (7.1 in AAC, Opus, DTS) has nine planes.
#
# `AudioFrame.planes` counts the pointers of `extended_data` until one is null. Up to eight channels that is FFmpeg's
# array of eight inside of AVFrame, whose neighbour is the length of a line: with all eight in use it is taken for the
# address of a ninth. `AudioFrame.to_ndarray` reads every plane, so that the process ends there (SIGSEGV; not done
# here). What helps: `frame.planes[:frame.layout.nb_channels]`. Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'av==18.1.0' 'numpy==2.2.6' 2>/dev/null
counts=$("$folder/env/bin/python" -c '
import av
for layout in ("mono", "5.1", "6.1", "7.1"):
    frame = av.AudioFrame(format="fltp", layout=layout, samples=1024)
    print(layout, frame.layout.nb_channels, len(frame.planes))
')
echo "layout, channels, planes:"
echo "$counts"
[ "$counts" = "$(printf 'mono 1 1\n5.1 6 6\n6.1 7 7\n7.1 8 9')" ]
