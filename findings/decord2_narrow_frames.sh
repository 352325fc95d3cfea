#!/usr/bin/env bash
# decord 0.6 and decord2 3.4: frames cannot be scaled to some widths: 16 and 48 pixels; decord2 32 and 96 neither.
#
# Odd widths work, and so do 64, 100 and 112. `VideoReader(width=, height=)` pads the lines of such pictures (48 pixels
# of three bytes to 192), and `get_batch` copies them as if they were as long as the pixels: "Check failed: from_size
# == to_size". What helps: another width, or scaling afterwards. Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for package in decord2==3.4.0 decord==0.6.0; do
    python3 -m venv "$folder/$package"
    "$folder/$package/bin/pip" install --quiet "$package" 'av==17.0.1' 'numpy==2.2.6' 2>/dev/null
done
cat > "$folder/make.py" <<'EOF'
import sys

import av
import numpy as np

with av.open(sys.argv[1], "w") as out:
    stream = out.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    for number in range(4):
        picture = np.full((120, 160, 3), 40 * number, dtype=np.uint8)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    out.mux(stream.encode())
EOF
cat > "$folder/scale.py" <<'EOF'
import sys

import decord

for width in (16, 32, 33, 48, 64, 96, 100, 112):
    try:
        shape = decord.VideoReader(sys.argv[1], num_threads=1, width=width, height=48).get_batch([0]).shape
        print(width, "ok" if shape == (1, 48, width, 3) else shape)
    except Exception as error:
        print(width, "from_size == to_size" if "from_size == to_size" in str(error) else error)
EOF
"$folder/decord2==3.4.0/bin/python" "$folder/make.py" "$folder/a.mp4"
new=$("$folder/decord2==3.4.0/bin/python" "$folder/scale.py" "$folder/a.mp4" 2>/dev/null)
old=$("$folder/decord==0.6.0/bin/python" "$folder/scale.py" "$folder/a.mp4" 2>/dev/null)
echo "decord2 3.4.0:"
echo "$new"
echo "decord 0.6.0:"
echo "$old"
failed="from_size == to_size"
[ "$new" = "$(printf '16 %s\n32 %s\n33 ok\n48 %s\n64 ok\n96 %s\n100 ok\n112 ok' "$failed" "$failed" "$failed" "$failed")" ]
[ "$old" = "$(printf '16 %s\n32 ok\n33 ok\n48 %s\n64 ok\n96 ok\n100 ok\n112 ok' "$failed" "$failed")" ]
