#!/usr/bin/env bash
# Builds and runs every test: the release build, the same suite under address and undefined-behaviour sanitizers, and each
# fuzz target for GEOPIXEL_FUZZ_SECONDS (45). Ends with one line: N passed, N failed, N skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_packages.sh --tests
export PYTHON3=/usr/bin/python3
seconds=${GEOPIXEL_FUZZ_SECONDS:-45}
logs=build/test-logs
mkdir -p "$logs"
# Judges of `geopixel eval` that Debian has no packages of; the tests that need them skip where PyPI is out of reach.
judges=build/tests/python
if [ ! -d "$judges/pycocotools" ] || [ ! -d "$judges/pycocoevalcap" ]; then
    "$PYTHON3" -m pip install -q --disable-pip-version-check --root-user-action=ignore --retries 1 --no-deps --only-binary :all: --upgrade \
        --target "$judges" pycocotools==2.0.11 pycocoevalcap==1.2 || echo "pycocotools and pycocoevalcap cannot be had: their tests skip"
fi
passed=0 failed=0 skipped=0

# count NAME LOG: adds ctest's verdicts.
count() {
    local ran skips fails
    ran=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#' "$2" || true)
    skips=$(grep -cE '\*\*\*Skipped' "$2" || true)
    fails=$(grep -cE '\*\*\*(Failed|Exception|Timeout|Not Run)' "$2" || true)
    passed=$((passed + ran - skips - fails)) skipped=$((skipped + skips)) failed=$((failed + fails))
    [ "$ran" -gt 0 ] || { echo "$1: no test ran"; failed=$((failed + 1)); }
}

# suite NAME BUILD: every ctest of a build.
suite() {
    echo "== tests: $1"
    ctest --test-dir "$2" --output-on-failure 2>&1 | tee "$logs/$1.log" || true
    count "$1" "$logs/$1.log"
}

echo "== release build"
cmake -B build -G Ninja >"$logs/configure.log" 2>&1 || { cat "$logs/configure.log"; exit 1; }
cmake --build build
suite release build

echo "== build with address and undefined-behaviour sanitizers"
cmake -B build-sanitize -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DGEOPIXEL_CUDA=off \
    -DGEOPIXEL_SANITIZE=address,undefined >"$logs/configure.log" 2>&1 || { cat "$logs/configure.log"; exit 1; }
cmake --build build-sanitize
suite sanitize build-sanitize

echo "== fuzz targets, ${seconds} s each"
cmake -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DGEOPIXEL_CUDA=off -DGEOPIXEL_FUZZ=ON \
    -DGEOPIXEL_TESTS=OFF -DGEOPIXEL_SANITIZE=address,undefined >"$logs/configure.log" 2>&1 || { cat "$logs/configure.log"; exit 1; }
cmake --build build-fuzz
for target in build-fuzz/bin/fuzz_*; do
    name=${target##*/fuzz_}
    found=build-fuzz/found/$name
    mkdir -p "$found"
    # Two at a time would share two cores; one after the other keeps the time whole.
    if "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$found/crash-" "$found" "tests/fuzz/corpus/$name" >"$logs/fuzz-$name.log" 2>&1; then
        echo "fuzz $name: passed, $(grep -oE 'stat::number_of_executed_units: *[0-9]+' "$logs/fuzz-$name.log" | grep -oE '[0-9]+$') inputs"
        passed=$((passed + 1))
    else
        echo "fuzz $name: FAILED; the input is in $found"
        tail -n 30 "$logs/fuzz-$name.log"
        failed=$((failed + 1))
    fi
done

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
