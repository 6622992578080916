# Where CMake finds the libraries that third_party/README.md names. Nothing is copied or downloaded.
find_package(PkgConfig REQUIRED)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
find_package(TIFF REQUIRED)
find_package(PNG REQUIRED)
find_package(JPEG REQUIRED)
find_package(ZLIB REQUIRED)
