#!/usr/bin/env bash
# What a machine with a GPU is asked, most important first: the kernel tests natively, compute-sanitizer on them where it is,
# and parity where the program was built. Needs nvcc, cmake and a C compiler; no library of the program's own.
#   bench/device.sh [FOLDER]   writes logs, summary.txt and <gpu>-<date>.json to FOLDER ($OUT, else bench/results/device)
# A step that fails does not stop the next; the exit code is 1 when one did.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:-bench/results/device}}
build=${GEOPIXEL_DEVICE_BUILD:-build-device}
mkdir -p "$out"
export PATH="$PATH:/usr/local/cuda/bin"
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$gpu" ] || echo "nvidia-smi finds no GPU: every test will say that it skips" >&2
steps=() failed=0

# step NAME COMMAND …: runs it into NAME.log and keeps its verdict.
step() {
    local name=$1 start=$SECONDS verdict=passed code=0
    shift
    "$@" >"$out/$name.log" 2>&1 || code=$?
    [ $code -eq 0 ] || verdict=failed
    [ $code -ne 77 ] || verdict=skipped
    [ $verdict != failed ] || failed=1
    steps+=("{\"step\": \"$name\", \"verdict\": \"$verdict\", \"code\": $code, \"seconds\": $((SECONDS - start))}")
    printf '%-32s %-8s %4d s\n' "$name" "$verdict" $((SECONDS - start)) | tee -a "$out/summary.txt"
    [ $verdict != failed ] || tail -n 5 "$out/$name.log" | tee -a "$out/summary.txt"
}

: >"$out/summary.txt"
if [ ! -x "$build/tests/cuda_linear" ]; then # built here unless carried here
    step configure cmake -B "$build" -DGEOPIXEL_KERNELS_ONLY=ON -DGEOPIXEL_CUDA=on
    step build cmake --build "$build" -j "$(nproc)"
fi
tests=(linear attention rows masks pictures)
for name in "${tests[@]}"; do
    [ ! -x "$build/tests/cuda_$name" ] || step "cuda_$name" "$build/tests/cuda_$name"
done
if [ -d "${GEOPIXEL_SHARED:-../shared}/goldens" ] && [ -x "$build/bin/parity" ]; then
    step parity "$build/bin/parity" --device cuda "${GEOPIXEL_SHARED:-../shared}/goldens"
fi
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        for name in "${tests[@]}"; do
            [ ! -x "$build/tests/cuda_$name" ] ||
                step "$tool-$name" timeout 120 compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/cuda_$name"
        done
    done
else
    echo "compute-sanitizer is not here: memory and races were not checked" | tee -a "$out/summary.txt"
fi
name=$(printf '%s' "${gpu:-no-gpu}" | tr ' /' '--' | tr -cd 'A-Za-z0-9-')
{
    printf '{"gpu": "%s", "driver": "%s", "date": "%s", "commit": "%s", "steps": [\n' "$gpu" "$driver" "$(date -u +%F)" \
        "$(git rev-parse --short HEAD 2>/dev/null)"
    (IFS=$'\n'; printf '%s' "${steps[*]}" | sed '$!s/$/,/')
    printf '\n]}\n'
} >"$out/$name-$(date -u +%F).json"
exit $failed
