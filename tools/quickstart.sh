#!/usr/bin/env bash
# From a fresh Debian or Ubuntu machine to a picture with masks: packages, build, geopixel-nano and a scene, one answer.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_packages.sh
echo "== building"
cmake -B build -G Ninja >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
rm -f build-configure.log
cmake --build build

work=build/quickstart scene=$(echo tools/nano/scene/images/*.tif)
mkdir -p "$work"

echo "== geopixel run: geopixel-nano is asked about $scene"
build/bin/geopixel run "$scene" --model tools/nano/model --crops 4 --overlay "$work/overlay.png" --json "$work/answer.json" -v --prompt \
    "Can you provide a thorough description of the this image? Please output with interleaved segmentation masks for the corresponding phrases."
cat <<EOF

The answer's picture is $work/overlay.png, everything else is in $work/answer.json.
geopixel-nano is a small model of GeoPixel's architecture that has seen drawn scenes only (tools/nano). With GeoPixel's checkpoint
in DIR:  build/bin/geopixel run SCENE --model DIR --prompt "Describe this image in detail." --overlay out.png
EOF
