#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to a picture with masks: packages, build, a small model and a scene, one answer.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_packages.sh
echo "== building"
cmake -B build -G Ninja >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
rm -f build-configure.log
cmake --build build

echo "== a small model with random weights, and a scene"
work=build/quickstart
mkdir -p "$work"
/usr/bin/python3 tools/random_model.py "$work/model" --scene "$work/scene.png"

echo "== geopixel run"
build/bin/geopixel run "$work/scene.png" --model "$work/model" --prompt "Describe the scene." \
    --overlay "$work/overlay.png" --json "$work/answer.json" -v
cat <<EOF

The answer's picture is $work/overlay.png, everything else is in $work/answer.json.
The weights are RANDOM: the sentence is crafted and the masks mean nothing. It shows that all parts run. With GeoPixel's
checkpoint in DIR:  build/bin/geopixel run SCENE --model DIR --prompt "Describe this image in detail." --overlay out.png
EOF
