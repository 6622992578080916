#!/usr/bin/env bash
# Installs what the build and the tests need on Debian 12 and later or Ubuntu 24.04 and later; does nothing where all is there.
set -euo pipefail

packages=(git cmake ninja-build pkg-config gcc g++ libsentencepiece-dev libtiff-dev libpng-dev libjpeg-dev libjansson-dev
    zlib1g-dev libgeotiff-dev libproj-dev libgeos-dev libsqlite3-dev libedit-dev libstemmer-dev libunistring-dev libgdal-dev python3
    python3-numpy)
if [ "${1:-}" = "--tests" ]; then packages+=(clang "libclang-rt-dev" gdal-bin python3-gdal python3-pip python3-scipy python3-pil); fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "installing: ${missing[*]}"
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
