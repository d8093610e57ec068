package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	machine "jail/internal/needs"
)

// everyday is what people do in a shell account, and what docs/compatibility.md says of it
// in a cage of the host; "" is works.
var everyday = []struct{ name, cmd, cage string }{
	{"bash, login shell", "bash -lic true", ""},
	{"zsh", "zsh -ic true", ""},
	{"vim", "vim -es -u NONE -c 'put =1' -c 'wq! v.txt'; test -s v.txt", ""},
	{"nano", "nano --version", ""},
	{"emacs", "emacs --batch --eval '(princ 1)'", ""},
	{"less", "less -FX /etc/profile", ""},
	{"man", "man -P cat ls", ""},
	{"git", "git init -q r && cd r && git -c user.email=a@b -c user.name=a commit -q --allow-empty -m x && git log", ""},
	{"python3", "/usr/bin/python3 -c 'import ssl, sqlite3, ctypes, multiprocessing as m; ssl.create_default_context(); m.Pool(2).map(abs, [-1])'", ""},
	{"python3 venv", "/usr/bin/python3 -m venv --without-pip v && v/bin/python -c ''", ""},
	{"perl", "perl -MPOSIX -e 'getpwuid($<) or exit 1'", ""},
	{"php", "php -r 'echo 1;'", ""},
	{"ruby", "ruby -e 'require %q(etc); Etc.getpwuid.name'", ""},
	{"node", "node -e 'require(\"os\").userInfo().username'", ""},
	{"java", "java -version", ""},
	{"gcc, make", "printf 'int main(){return 0;}' >h.c && printf 'h: h.c\\n\\tgcc -o h h.c\\n' >Makefile && make && ./h", ""},
	{"gdb", "gdb -batch -ex run --args /bin/true", ""},
	{"strace", "strace -o /dev/null true", ""},
	{"tmux", "tmux -L t new-session -d 'sleep 9' && tmux -L t kill-server", ""},
	// It has its session some time after it has come back.
	{"screen", "test -w /run/screen || { mkdir -m 700 s; export SCREENDIR=$PWD/s; }; screen -dmS x sleep 9 && for i in $(seq 100); do screen -S x -X quit && exit; sleep 0.1; done; false", ""},
	{"script", "script -qec tty /dev/null", ""},
	{"ssh", "ssh -G host", ""},
	{"ssh-agent, ssh-keygen", "eval $(ssh-agent) && ssh-keygen -q -t ed25519 -N '' -f k && ssh-add k && kill $SSH_AGENT_PID", ""},
	{"rsync", "rsync -a /etc/profile ./p", ""},
	{"curl", "curl -s file:///etc/profile", ""},
	{"wget", "wget --version", ""},
	{"openssl, certificates", "openssl verify -CApath /etc/ssl/certs /etc/ssl/certs/ca-certificates.crt", ""},
	{"gpg", "mkdir -m 700 g && gpg --homedir g --list-keys", ""},
	{"tar, gzip, zip", "tar czf a.tgz /etc/profile && zip -q a.zip a.tgz", ""},
	{"sqlite3", "sqlite3 d.db 'pragma journal_mode=wal; create table a(b)'", ""},
	{"psql", "psql --version", ""},
	{"ps, top, free", "ps aux && top -bn1 && free", ""},
	{"df", "df -h", ""},
	{"locale, iconv", "LC_ALL=C.UTF-8 locale charmap && echo a | iconv -t utf-16", ""},
	{"terminfo", "tput -T xterm-256color cols && infocmp xterm-256color", ""},
	{"time zones", "test \"$(TZ=Europe/Paris date +%Z)\" != Europe", ""},
	{"id, getent", "id -un && getent passwd $(id -u) && getent services ssh", ""},
	{"mktemp", "mktemp && mktemp -p /var/tmp", ""},
	{"shared memory, semaphores", "/usr/bin/python3 -c 'import multiprocessing as m; m.Lock(); m.Value(\"i\")'", ""},
	{"dash, fish", "dash -c : && fish -c true", ""},
	{"coreutils", "seq 9 | shuf | sort -n | uniq | join - <(seq 9) | tac | split -l 2 && ln xaa l && stat -c %h l | grep 2", ""},
	{"sed, awk, grep", "awk -F: '{print $1}' /etc/passwd | sed s/a/b/ | grep -c .", ""},
	{"find, xargs", "find /etc/profile -newermt 1970-01-02 -print0 | xargs -0 ls", ""},
	{"diff, patch", "echo a >a; echo b >b; diff -u a b >p; patch a p && cmp a b", ""},
	{"ed", "printf 'a\\nx\\n.\\nw f\\nq\\n' | ed -s && test -s f", ""},
	{"od", "od -c /etc/profile", ""},
	{"bc", "echo '2^100' | bc", ""},
	{"jq", "echo '{\"a\":1}' | jq .a", ""},
	{"file", "file -b /bin/bash", ""},
	{"xz, zstd, bzip2", "for z in xz zstd bzip2; do echo a | $z | $z -d || exit 1; done", ""},
	{"unzip, cpio", "zip -q a.zip /etc/profile && unzip -q a.zip && ls etc/profile | cpio -o >c", ""},
	{"dd, truncate, O_TMPFILE", "truncate -s 1G s && dd if=/dev/zero of=z bs=1M count=1 && /usr/bin/python3 -c 'import os; os.open(\".\", os.O_TMPFILE|os.O_RDWR)'", ""},
	{"FIFOs, unix sockets", "mkfifo f && { echo x >f & cat f; } && /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'", ""},
	{"a server on a port", "/usr/bin/python3 -c 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); socket.create_connection(s.getsockname())'", ""},
	{"/dev/shm", "f=$(mktemp -p /dev/shm) && rm $f", ""},
	{"flock, timeout, nohup, setsid", "flock l timeout 5 nohup setsid -w true", ""},
	{"job control", "bash -ic 'sleep 9 & jobs && kill %1'", ""},
	{"nice, ionice, taskset", "nice -n 5 ionice -c 3 true && taskset -p $$", ""},
	{"ulimit, prlimit", "ulimit -n 100 && prlimit --nofile && prlimit --core=0 true", ""},
	{"pgrep, uptime, vmstat", "sleep 9 & pgrep -f 'sleep 9' && kill $! && uptime && vmstat", ""},
	{"nproc, uname, findmnt", "nproc && uname -a && findmnt /", ""},
	{"ip, ss", "ip addr && ss -tln", ""},
	{"host names", "getent hosts localhost && getent hosts $(hostname)", ""},
	{"python3, packages of the host", "/usr/bin/python3 -c 'import paramiko, pexpect'", ""},
	{"gem, npm", "gem list && npm --version", ""},
	{"node, threads", "node -e 'new (require(\"worker_threads\").Worker)(\"\", {eval: true})'", ""},
	{"javac", "javac -version", ""},
	{"g++, static and shared", "echo 'int main(){}' >a.cc && g++ a.cc && ./a.out && g++ -static a.cc && ./a.out", ""},
	{"binutils, ldd", "objdump -h /bin/bash && readelf -h /bin/bash && ldd /bin/bash", ""},
	{"nroff", "echo .TH a 1 | nroff -man", ""},
	{"expect", "expect -c 'spawn tty; expect /dev/pts'", ""},
	{"mercurial, subversion", "hg init h && svnadmin create s && svn checkout -q file://$PWD/s w", ""},
	{"git clone, gc", "git init -q a && cd a && git -c user.email=a@b -c user.name=a commit -q --allow-empty -m x && git clone -q . ../b && git gc -q", ""},
	{"borg", "BORG_BASE_DIR=$PWD borg init -e none b && BORG_BASE_DIR=$PWD borg create b::a /etc/profile", ""},
	{"restic, rclone", "export RESTIC_PASSWORD=a RESTIC_CACHE_DIR=$PWD/c && restic init -q -r r && rclone copy /etc/profile d && test -s d/profile", ""},
	{"lftp, unison", "lftp --version && unison -version", ""},
	{"sftp", "echo ls / | sftp -b - -D /usr/lib/openssh/sftp-server", ""},
	{"openssl, a certificate", "openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=a", ""},
	{"qemu-img", "qemu-img create -q -f qcow2 d 1M", ""},
	{"sudo", "sudo -V", "no: set-uid"},
	{"crontab", "crontab -l 2>&1 | grep -q 'no crontab'", "no: set-gid; a service inside can run cron"},
	{"dpkg -l", "dpkg-query -W bash", "with `show = [\"/var/lib/dpkg\"]`"},
	{"unshare, podman", "unshare -Ur true", "no: nested namespaces"},
}

// everydayTable is what the document says of all that.
func everydayTable() string {
	var b strings.Builder
	b.WriteString("\n## Programs in a cage of the host\n\nWhat a plain account of a host can do, beside what it can in a cage of that host (`rootfs = \"host\"`); " +
		"`TestEverydayPrograms`\ncompares them.\n\n| program | in a cage |\n|---|---|\n")
	for _, row := range everyday {
		says := row.cage
		if says == "" {
			says = "works"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", row.name, says)
	}
	return b.String()
}

// TestEverydayPrograms: what a plain account of this machine can do, it can do in a cage,
// but for what the table says.
func TestEverydayPrograms(t *testing.T) {
	cage(t)
	var script strings.Builder
	script.WriteString("cd $(mktemp -d) || exit 1; export HOME=$PWD LC_ALL=C.UTF-8\n")
	for i, row := range everyday {
		fmt.Fprintf(&script, "mkdir d%d; (cd d%d; %s) >d%d.out 2>&1 </dev/null && echo %d works\n", i, i, row.cmd, i, i)
	}
	script.WriteString("rm -rf $PWD")
	// With a /tmp of its own, like the other.
	plain := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs -o mode=1777 tmpfs /tmp && cd /tmp && exec setpriv --reuid=$1 --regid=$1 --clear-groups bash -c \"$0\"",
		script.String(), strconv.Itoa(spares[0].id))
	plain.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/games", "HOME=/tmp"}
	var outside, inside result
	var both sync.WaitGroup
	both.Go(func() { outside = runCommand(t, plain, nil) })
	both.Go(func() { inside = run(t, forced, ask{as: centos, cmd: script.String()}) })
	both.Wait()
	require.NotEmpty(t, inside.stdout, "%s", inside.stderr)
	works := func(r result, i int) bool { return strings.Contains("\n"+r.stdout, fmt.Sprintf("\n%d works\n", i)) }
	machine.ReadPage(t, documentPath).Has(t, everydayTable())
	var absent []string
	for i, row := range everyday {
		if !works(outside, i) {
			absent = append(absent, row.name)
			assert.False(t, works(inside, i) && row.cage != "", row.name)
			continue
		}
		assert.Equal(t, row.cage == "", works(inside, i), row.name)
	}
	assert.Empty(t, absent, "nothing is in the table that was not compared; packaging/deps.sh installs what is missing: %s", outside.stderr)
}
