# In the manner of an editor's bootstrap: find the server that runs, or unpack
# and start one that does not end with this session, and say where it listens.
cd "$FAR" || exit 24
DATA=$PWD/.server
echo "platform==$(uname -s)=="
if test -e server.pid && kill -0 "$(cat server.pid)" 2>/dev/null; then
	echo running
else
	mkdir -p "$DATA" && cd "$DATA" || exit 25
	cat <<'TEXT' >index.html
a page of the server
TEXT
	tar -czf ../server.tgz index.html && rm index.html && tar -xzf ../server.tgz || exit 26
	cd ..
	# Ports are the host's, so one may be taken.
	for attempt in 1 2 3 4 5; do
		(trap '' HUP && exec ./busybox httpd -f -p "127.0.0.1:$PORT" -h "$DATA") >server.log 2>&1 </dev/null &
		echo $! >server.pid
		echo "$PORT" >server.port
		for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
			./busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/" 2>/dev/null && break 2
			sleep 0.1
		done
		kill "$(cat server.pid)"
		PORT=$((PORT + 1))
	done
fi
echo "listeningOn==$(cat server.port)=="
echo "exitCode==0=="
# Stays, for the forwarded ports, until the editor goes.
cat >/dev/null
