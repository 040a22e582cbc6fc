#!/bin/sh
# The unit tests of src/nn on 64-bit ARM: cross-compiled, run by qemu-user. `make test-arm64`; not a part of `make test`, since it wants
# Debian's gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user-static, and fetches cmocka for arm64 (without installing it).
set -e
cd "$(dirname "$0")/.."
out=build-arm64
mkdir -p "$out/lists/partial" "$out/cache/archives/partial" "$out/cmocka"
if [ ! -e "$out/cmocka/usr" ]; then
    options="-o Dir::State::lists=$PWD/$out/lists -o Dir::Cache=$PWD/$out/cache -o APT::Architecture=arm64 -o APT::Architectures::=arm64"
    apt-get $options -qq update
    (cd "$out" && apt-get $options -qq download libcmocka0 && dpkg -x libcmocka0_*.deb cmocka)
fi
lib=$(echo "$out"/cmocka/usr/lib/aarch64-linux-gnu/libcmocka.so.0)
cc="aarch64-linux-gnu-gcc -std=gnu17 -D_GNU_SOURCE -DSV_EMULATED -DSV_SOURCE_ROOT=\"$PWD\" -Isrc -isystem $out/include -Wall -Wextra -O3 -ffp-contract=off -fno-var-tracking"
mkdir -p "$out/include"
cp /usr/include/cmocka.h "$out/include/"
objects=
compile() { # FILE [FLAGS]
    object=$out/$(echo "$1" | tr / _).o
    $cc $2 -c "$1" -o "$object"
    objects="$objects $object"
}
for file in nn/kernels nn/kernels_neon nn/kernels_portable nn/packed_portable nn/pack nn/pool nn/tensor base/mem base/err base/str base/thread base/time; do
    compile src/$file.c
done
compile src/nn/packed_neon.c -march=armv8.2-a+dotprod
for test in pool packed kernels; do
    $cc -O1 src/nn/${test}_test.c $objects "$lib" -lm -lpthread -o "$out/${test}_test"
    echo "$test:"
    qemu-aarch64-static -cpu max -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$PWD/$out/cmocka/usr/lib/aarch64-linux-gnu" "$out/${test}_test"
done
