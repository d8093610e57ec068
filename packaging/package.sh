#!/bin/bash
# Builds a package of this source into dist:
#
#	package.sh deb | rpm      for VERSION, or the version of what is checked out
#	package.sh version        prints that
#
# The source is copied to build/package and built there by debhelper (packaging/debian)
# or rpmbuild (packaging/rpm). The result depends on the source, VERSION, the release of
# Go, and the release of those tools: two builds are the same, byte for byte. GOARCH=arm64
# builds for the other architecture.
set -euo pipefail
cd "$(dirname "$0")/.."
top=$PWD
work=${PACKAGE_WORK:-$top/build/package} # try-package.sh builds in two places
dist=${PACKAGE_DIST:-$top/dist}
umask 022
export LC_ALL=C.UTF-8 TZ=UTC

# git, of whoever's clone this is.
git() { command git -c safe.directory="$top" "$@"; }
in_git() { [ -e .git ] && command -v git >/dev/null; }

# version prints what is checked out: X.Y.Z at the tag vX.Y.Z, X.Y.Z+gitTIME.COMMIT behind
# it, and 0~gitTIME.COMMIT before there is any. Each is newer than the one before it, for
# dpkg and for rpm. Without git it is the last release of CHANGELOG.md.
version() {
	local tag='' here
	if ! in_git; then
		here=$(sed -n -E 's/^## \[([0-9][0-9.]*)\].*/\1/p;/^## \[[0-9]/q' CHANGELOG.md)
		echo "${here:-0~unreleased}"
		return
	fi
	tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || tag=''
	here=$(git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd.%h --abbrev=8)
	if [ -z "$tag" ]; then
		here="0~git$here"
	elif git describe --exact-match --match "$tag" HEAD >/dev/null 2>&1; then
		here=${tag#v}
	else
		here="${tag#v}+git$here"
	fi
	[ -z "$(git status --porcelain --untracked-files=no)" ] || here+=.dirty
	echo "$here"
}

version=${VERSION:-$(version)}
[[ $version =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || { echo "package: VERSION=$version: must begin with a digit, and have letters, digits, . + and ~ only" >&2; exit 64; }
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
	if in_git; then SOURCE_DATE_EPOCH=$(git log -1 --format=%ct); else SOURCE_DATE_EPOCH=$(stat -c %Y CHANGELOG.md); fi
fi
export SOURCE_DATE_EPOCH VERSION=$version

# source copies what is checked out to the directory $1.
source_to() {
	rm -rf "$1"
	mkdir -p "$1"
	if in_git; then
		git ls-files -z | while IFS= read -r -d '' f; do
			[ ! -e "$f" ] || printf '%s\0' "$f"
		done | tar --null -T - -cf - | tar -C "$1" -xf -
	else
		tar --exclude=./build --exclude=./bin --exclude=./dist --exclude=./.git -cf - . | tar -C "$1" -xf -
	fi
}

# Go's caches, which the tools' own HOME has not, and what Debian's and rpm's names for
# an architecture are.
GOCACHE=$(go env GOCACHE) GOMODCACHE=$(go env GOMODCACHE) GOARCH=$(go env GOARCH)
export GOCACHE GOMODCACHE GOARCH GOFLAGS=-buildvcs=false

deb() {
	local dir=$work/deb/jail-$version
	source_to "$dir"
	cp -a packaging/debian "$dir/debian"
	printf 'jail (%s) unstable; urgency=medium\n\n  * See changelog.gz, which is for administrators.\n\n -- %s  %s\n' "$version" \
		"$(sed -n 's/^Maintainer: //p' packaging/debian/control)" "$(date -R -d "@$SOURCE_DATE_EPOCH")" >"$dir/debian/changelog"
	# -d: which Go it is, go.mod says and go checks; Debian 12 has none that is new enough.
	(cd "$dir" && DEB_BUILD_OPTIONS=nocheck PATH=$PATH:/usr/sbin:/sbin dpkg-buildpackage --build=binary --host-arch "$GOARCH" -us -uc -d >../log 2>&1) || {
		cat "$work/deb/log" >&2
		exit 1
	}
	mkdir -p "$dist"
	mv "$work/deb/jail_${version}_$GOARCH.deb" "$dist/"
	echo "dist/jail_${version}_$GOARCH.deb"
}

rpm() {
	local dir=$work/rpm/jail-$version arch=x86_64
	[ "$GOARCH" = amd64 ] || arch=aarch64
	source_to "$dir"
	(cd "$dir" && rpmbuild -bb --build-in-place --target "$arch-linux" --nodeps \
		--define "_topdir $work/rpm/top" --define "_rpmdir $work/rpm" --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
		--define "package_version $version" --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
		--define "clamp_mtime_to_source_date_epoch 1" packaging/rpm/jail.spec >../log 2>&1) || {
		cat "$work/rpm/log" >&2
		exit 1
	}
	mkdir -p "$dist"
	mv "$work/rpm/jail-$version-1.$arch.rpm" "$dist/"
	echo "dist/jail-$version-1.$arch.rpm"
}

case ${1:-} in
deb | rpm) "$1" ;;
version) echo "$version" ;;
*)
	echo "usage: package.sh deb | rpm | version" >&2
	exit 64
	;;
esac
