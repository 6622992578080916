#!/usr/bin/env bash
# What a machine with a GPU is asked, most important first: PTX wrappers against their twins, the kernel tests natively,
# parity where the program was built, every kernel's time (bench/kernels), the whole model's, compute-sanitizer where it is. Needs nvcc, cmake
# and a C++ compiler; no library of the program's own. cuBLASLt and cuDNN, where they are found, are the bench's yardsticks.
#   bench/device.sh [FOLDER]   writes to FOLDER ($OUT, else bench/results/device) a log a step, summary.txt,
#                              <gpu>-<date>.json with every number, and <gpu>-<date>-kernels.txt, the kernels' table
# GEOPIXEL_DEVICE_BUILD names a build folder that was made elsewhere and is used as it is; without it build-device is brought
# up to date. A step that fails or hangs does not stop the next; the exit code is 1 when one did.
set -uo pipefail
out=${1:-${OUT:-}}
case $out in /* | "") ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")/.." || exit 1
out=${out:-$PWD/bench/results/device}
mkdir -p "$out" || exit 1
rm -f "$out/kernels.json" # an earlier run's
export PATH="$PATH:/usr/local/cuda/bin"
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }
gpu=$(query name) driver=$(query driver_version) capability=$(query compute_cap)
[ -n "$gpu" ] || gpu="" driver="" capability=""
steps=() failed=0
: >"$out/summary.txt"

say() { printf '%s\n' "$*" | tee -a "$out/summary.txt"; }

# step NAME SECONDS COMMAND …: runs it into NAME.log, at most so long, since a kernel that hangs never ends; keeps its verdict.
step() {
    local name=$1 limit=$2 start=$SECONDS verdict=passed code=0 last
    shift 2
    timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
    # A test that saw no GPU although there is one has shown nothing.
    [ $code -ne 0 ] || ! grep -q '^not compared with a GPU' "$out/$name.log" || [ -z "$gpu" ] || code=77
    case $code in
    0) ;;
    77) if [ -z "$gpu" ]; then verdict=skipped; else verdict=failed failed=1; fi ;;
    *) verdict=failed failed=1 ;;
    esac
    [ $code -ne 124 ] || echo "ended after $limit seconds" >>"$out/$name.log"
    steps+=("{\"step\": \"$name\", \"verdict\": \"$verdict\", \"code\": $code, \"seconds\": $((SECONDS - start))}")
    last=$(grep -v '^ *$' "$out/$name.log" | tail -n 1 | cut -c 1-110)
    say "$(printf '%-24s %-8s %4d s  %s' "$name" "$verdict" $((SECONDS - start)) "$last")"
    [ $verdict != failed ] || say "$(grep -v '^ *$' "$out/$name.log" | tail -n 6 | head -n 5 | sed 's/^/    /')"
}

# wheels lib|include SEPARATOR: those folders of NVIDIA's Python packages, where cuBLASLt and cuDNN may be if not with nvcc.
wheels() {
    python3 -c 'import glob, sys, sysconfig
print(sys.argv[2].join(glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/" + sys.argv[1])))' "$1" "$2" 2>/dev/null
}

# tested NAME …: those of the build's tests that are there; one that is missing is a failure, as the build's would be.
tested() {
    local name=$1
    if [ -x "$build/tests/$name" ]; then
        step "$name" 300 "$build/tests/$name"
    else
        step "$name" 10 sh -c "echo '$build/tests/$name was not built'; exit 1"
    fi
}

say "GPU: ${gpu:-none that nvidia-smi finds, so nothing is compared with one} ${capability:+(capability $capability, driver $driver)}"
build=${GEOPIXEL_DEVICE_BUILD:-build-device}
if [ -z "${GEOPIXEL_DEVICE_BUILD:-}" ] || [ ! -x "$build/tests/cuda_linear" ]; then
    # For this GPU alone, which is quicker. CMake's "native" would leave out sm_90a, and so wgmma.
    options=(-DGEOPIXEL_KERNELS_ONLY=ON -DGEOPIXEL_CUDA=on "-DCMAKE_INCLUDE_PATH=$(wheels include ';')") keep_going=(-- -k)
    case $capability in
    9.0) options+=(-DCMAKE_CUDA_ARCHITECTURES=90a-real) ;;
    [0-9]*.[0-9]) options+=("-DCMAKE_CUDA_ARCHITECTURES=${capability/./}-real") ;;
    esac
    if [ -f "$build/CMakeCache.txt" ]; then
        ! grep -q '^CMAKE_GENERATOR:INTERNAL=Ninja' "$build/CMakeCache.txt" || keep_going=(-- -k 0)
    elif command -v ninja >/dev/null; then
        options+=(-G Ninja) keep_going=(-- -k 0)
    fi
    step configure 120 cmake -B "$build" "${options[@]}"
    step build 1800 cmake --build "$build" -j "$(nproc)" "${keep_going[@]}"
fi

tests=(test_wrappers cuda_linear cuda_qkv cuda_attention cuda_rows cuda_lanes)
for name in cuda_masks cuda_pictures; do # they need libraries
    [ ! -x "$build/tests/$name" ] || tests+=("$name")
done
for name in "${tests[@]}"; do tested "$name"; done
# Recorded steps, by capture and replay: of the language model that ships.
[ ! -x "$build/tests/cuda_decode_step" ] || step cuda_decode_step 300 "$build/tests/cuda_decode_step" tools/nano/model
libraries=$(wheels lib :)
# Ranks need NCCL: as many as there are GPUs, one of which shows that NCCL takes our calls.
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries tested cuda_communicator
[ ! -x "$build/tests/cuda_nccl" ] || LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries tested cuda_nccl
shared=${GEOPIXEL_SHARED:-../shared}
if [ -n "$gpu" ] && [ -d "$shared/goldens" ] && [ -x "$build/bin/parity" ]; then
    step parity 600 "$build/bin/parity" --device cuda "$shared/goldens"
fi
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries step bench_kernels 300 "$build/bench/kernels" --output "$out/kernels.json"
# The whole model in random numbers, where the program was built: answers a second against how many go together.
if [ -n "$gpu" ] && [ -x "$build/bin/geopixel" ]; then
    step bench_model 300 "$build/bin/geopixel" bench offline --dummy-weights 7b --model tools/nano/model --device cuda \
        --tile 1024 --crops 9 --max-new-tokens 300 --requests 32 --batch 32 --json "$out/model.json"
    [ ! -f "$out/model.json" ] || mv "$out/model.json" "$out/$(printf '%s' "$gpu" | tr ' /' '--')-$(date -u +%F)-model.json"
fi
if [ -z "$gpu" ]; then
    say "compute-sanitizer was not asked: there is no GPU"
elif command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        for name in "${tests[@]}"; do
            [ ! -x "$build/tests/$name" ] ||
                step "$tool-$name" 180 compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/$name"
        done
    done
else
    say "compute-sanitizer is not here: memory and races were not checked"
fi

name=$(printf '%s' "${gpu:-no-gpu}" | tr ' /' '--' | tr -cd 'A-Za-z0-9-')
{
    printf '{"gpu": "%s", "driver": "%s", "capability": "%s", "date": "%s", "commit": "%s", "steps": [\n' "$gpu" "$driver" \
        "$capability" "$(date -u +%F)" "$(git rev-parse --short HEAD 2>/dev/null)"
    (IFS=$'\n'; printf '%s' "${steps[*]}" | sed '$!s/$/,/')
    printf '\n]'
    [ ! -f "$out/kernels.json" ] || { printf ', "kernels": ' && cat "$out/kernels.json" && rm "$out/kernels.json"; }
    printf '}\n'
} >"$out/$name-$(date -u +%F).json"
[ -z "$gpu" ] || cp "$out/bench_kernels.log" "$out/$name-$(date -u +%F)-kernels.txt"
echo
echo "--- summary, also in $out"
cat "$out/summary.txt"
exit $failed
