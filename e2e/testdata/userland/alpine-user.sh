#!/bin/bash
# alpine-user.sh DIR adds the account alice as "adduser -D -s /bin/ash alice" does there.
set -euo pipefail
root=$1
echo 'alice:x:1000:1000:alice:/home/alice:/bin/ash' >>"$root/etc/passwd"
echo 'alice:x:1000:' >>"$root/etc/group"
sed -i 's/^wheel:.*/&,alice/' "$root/etc/group"
echo 'alice:!:19000:0:99999:7:::' >>"$root/etc/shadow"
install -d -m 2755 -o 1000 -g 1000 "$root/home/alice"
