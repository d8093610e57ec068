# docs/hacking.md says what each target needs and leaves behind.

GO       ?= go
BIN      ?= bin
PREFIX   ?= /usr
DESTDIR  ?=
FUZZTIME ?= 10m
LOGIN    ?= debian
SUITE    ?= trixie
GOVERSION ?= $(shell $(GO) env GOVERSION)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

# Where a distribution wants the files of systemd, whatever PREFIX is.
UNITDIR     ?= $(PREFIX)/lib/systemd/system
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
ZSHDIR      ?= $(PREFIX)/share/zsh/site-functions

# No cgo and no PIE: either would cost a login more than the rest of jail-enter
# does. No VCS stamp: the version says it, and git refuses to answer root about
# somebody else's clone.
export CGO_ENABLED = 0
BUILD = $(GO) build -trimpath -buildvcs=false -buildmode=exe -ldflags '-s -w $(1)' -o $(BIN)/ ./cmd/$(2)

# Before tests, which make directories that other ids go into, whatever umask the caller has.
WIDE = umask 022;

PLAIN = ./cmd/... ./config/... ./internal/...
PURE  = ./internal/wire ./internal/jail ./internal/passwd ./internal/authkeys ./internal/environ ./internal/confine ./internal/supervise ./internal/archive

.PHONY: all build build-enter unit test race bite inject arm64 bench lint fuzz trees deps install deb rpm \
	demo demo-shell demo-stop try-go try-upgrade try-systemd try-package cast try-vm try-network try-arm64 try-release clean

all: build

build: build-enter
	$(call BUILD,-X main.version=$(VERSION),jail-init)
	$(call BUILD,,jail-pid1)
	$(call BUILD,,jail-keys)
	$(call BUILD,,jail-sftp-server)
	$(call BUILD,,jail-import)
	$(call BUILD,,jail-net)

# On amd64 with an entry point of its own, before the Go runtime's (internal/early),
# unless EARLY is empty: it is where the release of Go is none that try-go has passed
# with, since the entry point relies on what the compiler expects.
EARLY_GO = go1.26 go1.26.%
EARLY ?= $(if $(filter $(EARLY_GO),$(shell $(GO) env GOVERSION)),yes)
ENTRY_amd64 = $(if $(EARLY),-E jail/internal/early.start)
build-enter:
	$(call BUILD,$(ENTRY_$(shell $(GO) env GOARCH)),jail-enter)

# What needs no privilege, in seconds.
unit:
	$(WIDE) $(GO) test $(PLAIN)

# Everything, and nothing may be skipped.
test: deps
	$(WIDE) JAIL_TEST_MUST_RUN=1 $(GO) test -count=1 -timeout=60m ./...

# The race detector needs cgo and a C compiler. sys is compiled without it, its callers
# are not: the compiler has the detector called on the way from clone_amd64.s to
# sys.Fork's child, which shares its state with the parent and may not touch it.
race: export CGO_ENABLED = 1
race:
	packaging/deps.sh race
	$(WIDE) $(GO) test -race -gcflags=jail/internal/sys=-race=false -count=1 $(PLAIN)

# jail-enter's entry point, with another release of Go: GOVERSION=go1.27rc1.
try-go: export GOTOOLCHAIN = $(GOVERSION)
try-go: export EARLY = yes
try-go:
	$(GO) version
	$(WIDE) $(GO) test -count=1 ./cmd/jail-enter ./internal/early ./internal/enter

# Breaks the product in one place at a time and runs the test that has to notice.
# Red when one did not. BITEFLAGS="-run REGEXP" takes some.
bite: deps
	$(WIDE) $(GO) run ./e2e/bite $(BITEFLAGS)

# Refuses each system call of a session, a start and a lookup in turn, and prints a table.
# INJECT=REGEXP takes the points that match, as "scene: call number error".
INJECT ?= all
inject: deps
	$(WIDE) JAIL_TEST_MUST_RUN=1 JAIL_TEST_INJECT='$(INJECT)' $(GO) test -count=1 -timeout=60m -v -run '^TestInject$$' ./e2e

# The other architecture: it builds, into build/arm64, and what needs no kernel passes
# under qemu-user. It has neither seccomp nor namespaces, nor runs the test's own program
# again.
arm64: export GOARCH = arm64
arm64:
	packaging/deps.sh arm64
	$(GO) vet ./...
	$(GO) build ./...
	$(MAKE) build BIN=build/arm64
	$(GO) test -exec qemu-aarch64 $(PURE)
	$(GO) test -exec qemu-aarch64 -run '^(TestNumbers|TestPoll.*|TestCatchSignals)$$' ./internal/sys

# An upgrade with jails running, from the programs of another commit to these, and back.
OLD ?= 290bf9c
try-upgrade: deps
	rm -rf build/old
	mkdir -p build/old/source
	git archive '$(OLD)' | tar -x -C build/old/source
	$(MAKE) -C build/old/source build BIN='$(CURDIR)/build/old/bin'
	$(WIDE) JAIL_TEST_OLD='$(CURDIR)/build/old/bin' JAIL_TEST_MUST_RUN=1 $(GO) test -count=1 -v -run '^TestUpgrade$$' ./e2e

bench: deps
	$(GO) run ./e2e/bench $(or $(BENCHFLAGS),-plot docs/performance.svg)

lint:
	@out=$$(gofmt -l cmd config internal e2e); test -z "$$out" || { echo "gofmt -w" $$out; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags programs ./e2e
	@for f in packaging/*.sh packaging/*/*.sh packaging/debian/jail.p* .ci/run; do bash -n $$f || exit 1; done
	@if command -v shellcheck >/dev/null; then shellcheck packaging/*.sh packaging/*/*.sh packaging/debian/jail.p* .ci/run; \
	else echo "lint: shellcheck is not installed, left out"; fi
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning docs/man/*.[1-9]; \
	else echo "lint: mandoc is not installed, left out"; fi

# Every fuzz target, one after the other, for FUZZTIME each.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

# The root file systems of the tests, which keep them in build/trees.
trees: deps
	$(GO) test -count=1 -run '^$$' ./e2e

# Packages of Debian that are missing here. Changes nothing if none are.
deps:
	packaging/deps.sh test

install: build
	packaging/install.sh '$(DESTDIR)' '$(PREFIX)' '$(UNITDIR)' '$(TMPFILESDIR)' '$(SYSUSERSDIR)' '$(ZSHDIR)'

# Packages, into dist: PACKAGE_VERSION= what git and CHANGELOG.md say, unless given.
deb:
	packaging/deps.sh deb
	VERSION='$(PACKAGE_VERSION)' packaging/package.sh deb

rpm:
	packaging/deps.sh rpm
	VERSION='$(PACKAGE_VERSION)' packaging/package.sh rpm

demo: build
	packaging/demo/demo.sh start

demo-shell:
	@packaging/demo/demo.sh shell '$(LOGIN)'

demo-stop:
	packaging/demo/demo.sh stop

# Both forms of the systemd units, on a Debian booted by systemd-nspawn.
try-systemd: build
	packaging/systemd/try-nspawn.sh

# The packages: install, upgrade, removal, on Debians booted by systemd-nspawn and, vm, by qemu.
SUITES ?= policies readme bookworm sid rpm many vm trixie
try-package:
	packaging/try-package.sh $(SUITES)

# A terminal at which somebody goes from a bare Debian to ssh, recorded: docs/tour.cast.
cast:
	packaging/try-package.sh cast
	cp build/tour.cast docs/tour.cast

# The limits, on a Debian booted by qemu, on two kernels.
# Two jails and the host run the same programs on the same ports; and, with
# KERNELS="vmlinuz...", what loads the network is tried on other kernels.
try-network: build
	JAIL_TEST_MUST_RUN=1 $(GO) test -count=1 -tags programs -run '^TestNetworkPrograms$$' ./e2e
	[ -z "$(KERNELS)" ] || packaging/vm/try-network.sh $(KERNELS)

try-vm: build
	packaging/vm/try-vm.sh $(VMFLAGS)

# A login on arm64, on a machine emulated by qemu.
try-arm64: arm64
	packaging/vm/try-arm64.sh

# The tests, on another release of Debian.
try-release:
	packaging/release/try-release.sh $(SUITE)

# build/trees stays: it takes minutes and a mirror to make.
clean:
	rm -rf bin dist
