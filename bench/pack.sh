#!/usr/bin/env bash
# Packs what bench/device.sh asks of a machine with a GPU that cannot build it, or has little time: programs built here for
# that GPU alone, without GDAL; the libraries they need; a part of the goldens, where they are beside the repository.
#   bench/pack.sh [FOLDER]    fills FOLDER (carry, which git ignores): FOLDER/programs, FOLDER/goldens
# There, in the repository's root: bash FOLDER/programs/run.sh [OUT], which leaves bench/device.sh's summary, table and
# numbers in OUT ($OUT, else bench/results/device), and its logs in one archive. Where both folders are too much to bring at
# once: bash FOLDER/goldens/run.sh first, which leaves the goldens in /tmp.
# GEOPIXEL_PACK_ARCHITECTURES: 90a-real (an H100 or H200) unless it says otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-carry} build=build-carry work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v patchelf >/dev/null || { echo "pack.sh: patchelf is missing: apt-get install patchelf" >&2; exit 1; }

cmake -B "$build" -G Ninja -DGEOPIXEL_CUDA=on -DGEOPIXEL_GDAL=off -DCMAKE_BUILD_TYPE=Release \
    "-DCMAKE_CUDA_ARCHITECTURES=${GEOPIXEL_PACK_ARCHITECTURES:-90a-real}"
cmake --build "$build"

# Programs find their libraries beside them, whatever the machine has of its own but the C library.
programs=(bin/parity bin/geopixel bench/kernels tests/test_wrappers)
for test in "$build"/tests/cuda_*; do [ ! -f "$test" ] || programs+=("tests/${test##*/}"); done
mkdir -p "$work/libraries"
for program in "${programs[@]}"; do
    ldd "$build/$program" | awk '$3 ~ /^\// && $3 !~ /\/lib[cm]\.so/ {print $3}' |
        while read -r library; do cp -Lu "$library" "$work/libraries/"; done
    mkdir -p "$work/build/${program%/*}"
    cp "$build/$program" "$work/build/$program"
    strip "$work/build/$program"
    patchelf --force-rpath --set-rpath '$ORIGIN/../../libraries' "$work/build/$program"
done
for library in "$work"/libraries/*; do patchelf --force-rpath --set-rpath '$ORIGIN' "$library"; done

# pack FOLDER NAME …: those parts of what was laid out, as FOLDER/parts.tar.xz.
pack() {
    local target=$1
    shift
    mkdir -p "$target"
    tar -C "$work" -c "$@" | xz -T1 -6 --lzma2=dict=64MiB >"$target/parts.tar.xz"
}
# unpack FOLDER: a line for scripts there, which may have neither tar nor xz.
unpack() {
    printf "python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' \"\$here/parts.tar.xz\" %s\n" "$1"
}

rm -rf "$folder"
pack "$folder/programs" build libraries
cat >"$folder/programs/run.sh" <<RUN
#!/usr/bin/env bash
# Written by bench/pack.sh: runs bench/device.sh with what was built elsewhere.
set -uo pipefail
here=\$(cd "\$(dirname "\$0")" && pwd) root=\$(cd "\$(dirname "\$0")/../.." && pwd)
out=\${1:-\${OUT:-\$root/bench/results/device}} unpacked=\$(mktemp -d)
$(unpack '"$unpacked"')
[ ! -f "\$here/../goldens/run.sh" ] || bash "\$here/../goldens/run.sh"
GEOPIXEL_DEVICE_BUILD=\$unpacked/build GEOPIXEL_SHARED=/tmp/geopixel-goldens bash "\$root/bench/device.sh" "\$unpacked/out"
code=\$?
mkdir -p "\$out"
python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1], "w:gz").add(sys.argv[2], "logs")' "\$out/logs.tar.gz" "\$unpacked/out"
for file in "\$unpacked"/out/*.json "\$unpacked"/out/*-kernels.txt "\$unpacked/out/summary.txt"; do
    [ ! -f "\$file" ] || cp "\$file" "\$out/"
done
rm -rf "\$unpacked"
exit \$code
RUN

goldens=${GEOPIXEL_SHARED:-../shared}/goldens
if [ -d "$goldens" ]; then
    mkdir -p "$work/goldens/cases" "$work/goldens/images"
    cp -r "$goldens/checkpoint" "$work/goldens/"
    for name in square-one-mask seg-is-last-token small-no-mask landscape-4-crops; do
        cp -r "$goldens/cases/$name" "$work/goldens/cases/"
        image=$(sed -n 's/^ *"image": "\(.*\)",$/\1/p' "$goldens/cases/$name/case.json")
        cp "$goldens/$image" "$work/goldens/$image"
    done
    pack "$folder/goldens" goldens
    cat >"$folder/goldens/run.sh" <<RUN
#!/usr/bin/env bash
# Written by bench/pack.sh: the goldens to where programs/run.sh looks for them.
set -euo pipefail
here=\$(cd "\$(dirname "\$0")" && pwd)
mkdir -p /tmp/geopixel-goldens
$(unpack /tmp/geopixel-goldens)
RUN
fi
du -sb "$folder"/* | awk -v tracked="$(git ls-files -z | xargs -0 du -cb | tail -n 1 | cut -f 1)" \
    '{printf "%s: %.1f MiB; with the repository %.1f MiB\n", $2, $1 / 1048576, ($1 + tracked) / 1048576}'
