#!/usr/bin/env bash
# decord 0.6.0 (the last release, 2021): `pip check` calls every environment that holds it broken.
#
# The wheel is named py3-none-manylinux2010_x86_64 and installs and imports with any Python 3, but its WHEEL file
# inside says "Tag: cp36-cp36m-manylinux2010_x86_64". pip 26 compares that tag, not the name, and exits 1 with
# "decord 0.6.0 is not supported on this platform". decord2, the fork that is kept up, has wheels whose tags fit.
# Linux on x86-64, pip 26.3, decord 0.6.0, decord2 3.4.0, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
check() { # NAME==VERSION -> what pip check says
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet 'pip==26.3'
    "$folder/$1/bin/pip" install --quiet 'numpy==2.2.6' "$1"
    "$folder/$1/bin/python" -c 'import decord; decord.VideoReader' # it works
    "$folder/$1/bin/pip" check || true
}
old=$(check decord==0.6.0 2>/dev/null)
fork=$(check decord2==3.4.0 2>/dev/null)
echo "decord 0.6.0: $old"
echo "decord2 3.4.0: $fork"
[ "$old" = "decord 0.6.0 is not supported on this platform" ] && [ "$fork" = "No broken requirements found." ]
