package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// inDebian runs a command as root of the Debian jail.
func inDebian(t *testing.T, script string) result {
	t.Helper()
	return runCommand(t, exec.Command(initPath, "exec", "debian", "sh", "-ec", script), nil)
}

// TestLife is what the walls must leave standing in userns mode: what people do
// on a machine of their own. Plain sshd is no oracle for most of it, being root
// of nothing.
func TestLife(t *testing.T) {
	own(t, standardRegistry())
	change := func(path, text string, mode os.FileMode) {
		t.Helper()
		full := filepath.Join(debianRoot, path)
		before, err := os.ReadFile(full)
		require.NoError(t, os.WriteFile(full, []byte(text), mode))
		require.NoError(t, os.Chmod(full, mode))
		t.Cleanup(func() {
			if err != nil {
				os.Remove(full)
			} else {
				os.WriteFile(full, before, mode)
			}
		})
	}
	// A root without a password, and a sudo that asks for none.
	shadow := contents(filepath.Join(debianRoot, "etc/shadow"))
	change("etc/shadow", strings.Replace(shadow, "root:*:", "root::", 1), 0o640)
	change("etc/sudoers.d/work", "work ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	fine := func(t *testing.T, command, want string) {
		t.Helper()
		r := run(t, forced, ask{cmd: command, wire: true})
		assert.Equal(t, result{stdout: want}, result{stdout: r.stdout, status: r.status}, "%s\n%s", command, r.stderr)
	}

	t.Run("su", func(t *testing.T) {
		fine(t, "su -c 'id -u; touch /root/made; stat -c %u /root/made; rm /root/made'", "0\n0\n")
		assert.Equal(t, "work\n", inDebian(t, "su - work -c 'id -un'").stdout)
		l := open(t, forced, onTTY("su - -c 'tty; id -u'"))
		l.expect(`/dev/pts/0\r\n0\r\n`)
		assert.Zero(t, l.wait().status)
	})
	t.Run("sudo", func(t *testing.T) {
		fine(t, "sudo -n id -u; sudo -n -u nobody id -un; sudo -n sh -c 'echo x >/etc/made && rm /etc/made && echo done'", "0\nnobody\ndone\n")
		l := open(t, forced, onTTY("sudo -n sh -c 'id -u; tty'"))
		l.expect(`0\r\n/dev/pts/\d\r\n`)
		assert.Zero(t, l.wait().status)
	})
	t.Run("set-uid and file capabilities", func(t *testing.T) {
		r := inDebian(t, "cp /usr/bin/id /usr/local/bin/sid; chmod 4755 /usr/local/bin/sid; cp /usr/bin/python3 /usr/local/bin/capable; setcap cap_chown+ep /usr/local/bin/capable; getcap /usr/local/bin/capable")
		require.Equal(t, "/usr/local/bin/capable cap_chown=ep\n", r.stdout, "%s", r.stderr)
		defer inDebian(t, "rm /usr/local/bin/sid /usr/local/bin/capable")
		fine(t, "/usr/local/bin/sid -u", "0\n")
		fine(t, `touch given; /usr/local/bin/capable -c 'import os; os.chown("given", 12, 34)'; stat -c '%u %g' given; rm -f given`, "12 34\n")
	})
	t.Run("accounts", func(t *testing.T) {
		r := inDebian(t, "useradd -m -s /bin/sh newone; echo 'newone:secret' | chpasswd; su - newone -c 'id -un; pwd'; userdel -r newone 2>/dev/null; getent passwd newone || echo gone")
		assert.Equal(t, "newone\n/home/newone\ngone\n", r.stdout, "%s", r.stderr)
	})
	t.Run("packages", func(t *testing.T) {
		r := inDebian(t, `
			dir=$(mktemp -d); cd $dir; chmod 755 $dir
			for name in one two; do
				mkdir -p $name/DEBIAN $name/usr/share/$name
				echo hello >$name/usr/share/$name/file
				printf 'Package: life-%s\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: %s\n' $name $name >$name/DEBIAN/control
				printf '#!/bin/sh\nchown nobody /usr/share/%s/file\n' $name >$name/DEBIAN/postinst
				chmod 755 $name/DEBIAN/postinst
				dpkg-deb -b $name >/dev/null
			done
			dpkg -i one.deb >/dev/null
			apt-get -y -o APT::Sandbox::User=_apt install ./two.deb >/dev/null 2>apt.log || cat apt.log
			stat -c '%U %n' /usr/share/one/file /usr/share/two/file
			apt-get -y purge life-one life-two >/dev/null 2>&1
			ls -d /usr/share/one /usr/share/two 2>/dev/null || echo gone
			rm -r $dir`)
		assert.Equal(t, "nobody /usr/share/one/file\nnobody /usr/share/two/file\ngone\n", r.stdout, "%s", r.stderr)
	})
	t.Run("debuggers", func(t *testing.T) {
		fine(t, "sleep 51236 & p=$!; gdb -q -batch -p $p -ex 'print 6*7' 2>/dev/null | grep -c '= 42'; kill $p", "1\n")
		fine(t, "strace -o trace -f sh -c 'echo traced'; grep -c execve trace; rm trace", "traced\n1\n")
		// A process of another session, by pid.
		l := open(t, forced, ask{cmd: "echo $$; read x", wire: true})
		pid := l.expect(`(\d+)\n`)
		fine(t, "strace -p "+pid+" -e trace=none 2>&1 & sleep 0.3; kill %1; wait 2>/dev/null; true", fmt.Sprintf("strace: Process %s attached\nstrace: Process %s detached\n", pid, pid))
		l.in.Close()
		l.wait()
	})
	t.Run("sessions meet", func(t *testing.T) {
		// One Landlock domain for all: signals and abstract sockets work across.
		const serve = "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind(\"\\0life\")\ns.listen()\nprint(\"listens\", flush=True)\n" +
			"c = s.accept()[0]\nprint(c.recv(9).decode(), flush=True)\nwhile True: s.accept()"
		l := open(t, forced, ask{cmd: "exec python3 -c '" + serve + "'", wire: true})
		l.expect("listens\n")
		fine(t, `python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("\0life"); s.send(b"hello")'`, "")
		l.expect("hello\n")
		fine(t, "pkill -USR1 -f '^python3 -c import socket' && echo signalled", "signalled\n")
		assert.Equal(t, "USR1", l.wait().signal)
	})
	t.Run("dbus", func(t *testing.T) {
		l := open(t, forced, ask{cmd: "exec dbus-daemon --session --print-address --address=unix:abstract=/tmp/life-bus --nofork", wire: true})
		address := l.expect(`(unix:\S+)\n`)
		fine(t, "DBUS_SESSION_BUS_ADDRESS="+address+" dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetId | grep -c string", "1\n")
		fine(t, "pkill dbus-daemon; true", "")
		l.wait()
	})
	t.Run("agent", func(t *testing.T) {
		fine(t, `eval "$(ssh-agent -s)" >/dev/null; ssh-keygen -q -t ed25519 -N '' -f key; ssh-add -q key; ssh-add -l | grep -c ED25519; ssh-agent -k >/dev/null; rm key key.pub`, "1\n")
	})
	t.Run("semaphores, shared memory, queues", func(t *testing.T) {
		fine(t, `python3 -c '
import multiprocessing, multiprocessing.shared_memory, socket
def square(n): return n * n
if True:
	multiprocessing.set_start_method("fork")
	with multiprocessing.Pool(4) as pool: print(sum(pool.map(square, range(100))))
	m = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
	m.buf[0] = 7
	n = multiprocessing.shared_memory.SharedMemory(m.name); print(n.buf[0])
	n.close(); m.close(); m.unlink()
	q = multiprocessing.Queue(); q.put("queued"); print(q.get())
'`, "328350\n7\nqueued\n")
		fine(t, `python3 -c '
import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
fd = c.mq_open(b"/life", os.O_CREAT | os.O_RDWR, 0o600, None)
print(fd > 2, c.mq_send(fd, b"x", 1, 0), os.listdir("/dev/mqueue"), c.mq_unlink(b"/life"))
'`, "True 0 ['life'] 0\n")
		fine(t, "ipcmk -Q >/dev/null && ipcs -q | grep -c work; ipcrm -a", "1\n")
	})
	t.Run("network", func(t *testing.T) {
		fine(t, `python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 0))
c = socket.create_connection(s.getsockname())
s.accept()[0].send(b"over the host")
print(c.recv(20).decode())
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
'`, "over the host\n")
	})
	t.Run("tmux", func(t *testing.T) {
		fine(t, "tmux new-session -d -s life 'exec sleep 51237' && echo started", "started\n")
		fine(t, "tmux list-sessions -F '#{session_name}'; tmux kill-server; rm -rf /tmp/tmux-*", "life\n")
	})
	t.Run("chroot", func(t *testing.T) {
		assert.Equal(t, "static\n", inDebian(t, "mkdir -p /tmp/root/bin; cp /usr/local/bin/argv /tmp/root/bin/; chroot /tmp/root /bin/argv >/dev/null && echo static; rm -r /tmp/root").stdout)
	})
}
