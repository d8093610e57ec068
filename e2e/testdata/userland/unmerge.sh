#!/bin/bash
# unmerge.sh DIR makes of a Debian 12 one whose /bin, /sbin and /lib are directories beside
# those in /usr, as all were before: each file is where its package has it.
set -euo pipefail
root=$1
for link in "$root"/{bin,sbin,lib,lib32,lib64,libx32}; do
	[ ! -L "$link" ] || { rm "$link" && mkdir "$link"; }
done
sort -u "$root"/var/lib/dpkg/info/*.list | grep -E '^/(bin|sbin|lib|lib64)/' | while read -r path; do
	if [ -L "$root/usr$path" ] || [ ! -d "$root/usr$path" ]; then
		[ ! -e "$root/usr$path" ] && [ ! -L "$root/usr$path" ] || mv "$root/usr$path" "$root$path"
	else
		mkdir -p "$root$path"
	fi
done
