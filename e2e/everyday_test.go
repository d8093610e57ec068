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
	{"screen", "test -w /run/screen || { mkdir -m 700 s; export SCREENDIR=$PWD/s; }; screen -dmS x sleep 9 && screen -S x -X quit", ""},
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
	assert.Contains(t, contents(documentPath), everydayTable())
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
