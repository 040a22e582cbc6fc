# Selvedge: Make in front of Meson. `make run` on a fresh Debian is all the set-up there is.
#
#   make            install what is missing, build build/selvedge
#   make run        that, and serve with the default model and the examples deployed (LISTEN=..., DATA=...)
#   make test       everything: units, sanitizers, fuzz targets, real clients. The last line counts
#   make test-arm64 the kernels' unit tests for 64-bit ARM, cross-compiled and emulated (tests/arm64.sh says what it needs)
#   make soak      kills and power cuts under writers, ROUNDS=200 of each
#   make bench      benchmarks; bench-engine, bench-serve, bench-store, bench-vec run a part (bench/run.mjs says which there are)

LISTEN ?= 127.0.0.1:8787
DATA ?= data
ROUNDS ?= 200
JOBS ?= $(shell nproc)
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
NPM_DONE = node_modules/.package-lock.json

all: build

# Installs the packages of packages.txt that dpkg does not know yet; as root, or through sudo.
build/.packages: packages.txt
	@mkdir -p build
	@missing=$$(sed 's/#.*//' packages.txt | while read -r p command; do \
	    [ -z "$$p" ] || { [ -n "$$command" ] && command -v "$$command" >/dev/null; } || dpkg-query -W -f='$${db:Status-Status}' "$$p" 2>/dev/null | grep -q '^installed' || echo "$$p"; done); \
	  if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    sudo=$$([ "$$(id -u)" = 0 ] || command -v sudo || { echo "need root or sudo to install:" $$missing >&2; exit 1; }); \
	    $$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -qy --no-install-recommends $$missing; \
	  fi
	@touch $@

# The npm parts, exactly as the lock file has them.
$(NPM_DONE): package.json package-lock.json build/.packages
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

build/build.ninja: build/.packages meson.build
	@[ -f $@ ] || meson setup build >build/setup.log || { cat build/setup.log; exit 1; }

build: build/build.ninja $(NPM_DONE)
	@ninja -C build -j $(JOBS) selvedge selvedge-audio

run: build
	@examples/run $(DATA) $(LISTEN)

test: build
	@node tests/run.mjs

test-arm64:
	@sh tests/arm64.sh

soak: build
	@SOAK=$(ROUNDS) TESTS=durability node tests/run.mjs system

bench: build
	@node bench/run.mjs

bench-%: build
	@node bench/run.mjs $*

clean:
	rm -rf build build-*

.PHONY: all build run test test-arm64 soak bench clean
