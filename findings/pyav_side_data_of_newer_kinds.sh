#!/usr/bin/env bash
# PyAV 18.1: one kind of side data without a name makes all of a frame's unreadable.
#
# `VideoFrame.side_data` builds an entry for each kind and looks its number up in an enumeration that ends with FFmpeg
# 7's; the FFmpeg 8 in the wheel has more. A Motion JPEG video whose pictures carry EXIF notes (number 31), or spatial
# video of a phone (29, the view), raises "ValueError: 31 is not a valid Type": the display matrix cannot be had, though
# `frame.rotation` gives its angle. Decoding works. Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet 'av==18.1.0' 'numpy==2.2.6' 'pillow==12.0.0' 2>/dev/null
said=$("$folder/env/bin/python" - "$folder" <<'PYTHON'
import io
import sys
from fractions import Fraction

import av
from PIL import Image

for notes in (False, True):
    exif, data = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(data, "JPEG", **({"exif": exif} if notes else {}))
    path = f"{sys.argv[1]}/{notes}.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet(data.getvalue())
        packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 10), 0, 0
        container.mux(packet)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        try:
            print(frame.rotation, len(frame.side_data))
        except ValueError as error:
            print(frame.rotation, error)
PYTHON
)
echo "$said"
[ "$said" = "$(printf '0 0\n-90 31 is not a valid Type')" ]
