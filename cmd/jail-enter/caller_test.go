package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestSameCaller: both builds tell the supervisor the same of who has called, and nobody
// waits for a supervisor.
func TestSameCaller(t *testing.T) {
	quick, run := builds(t)
	auth := filepath.Join(t.TempDir(), "auth")
	require.NoError(t, os.WriteFile(auth, []byte("publickey ssh-ed25519 AAAA\npassword\n"), 0o600))
	lines := [][]byte{[]byte("publickey ssh-ed25519 AAAA"), []byte("password")}
	const connection = "192.0.2.1 50000 192.0.2.2 22"
	own := filepath.Join(strconv.Itoa(os.Getuid()), "caller")
	for claim, c := range map[string]struct {
		argv, env []string
		socket    string // below the runtime directory
		want      wire.Caller
	}{
		"sshd's shell":                    {[]string{"-jail-enter"}, []string{"SSH_CONNECTION=" + connection, "SSH_USER_AUTH=" + auth}, "caller", wire.Caller{PID: 7, SSHD: true, Connection: []byte(connection), Auth: lines}},
		"sshd's ForceCommand":             {[]string{"jail-enter", "--forced"}, []string{"SSH_CONNECTION=" + connection, "SSH_USER_AUTH=" + auth}, "caller", wire.Caller{PID: 7, SSHD: true, Connection: []byte(connection), Auth: lines}},
		"without ExposeAuthInfo":          {[]string{"jail-enter", "--forced"}, []string{"SSH_CONNECTION=" + connection}, "caller", wire.Caller{PID: 7, SSHD: true, Connection: []byte(connection)}},
		"a su":                            {[]string{"-jail-enter"}, nil, "caller", wire.Caller{PID: 7}},
		"a su from somebody's own login":  {[]string{"-jail-enter"}, []string{"SSH_CONNECTION=" + connection, "SSH_USER_AUTH=" + auth, "PWD=/root"}, "caller", wire.Caller{PID: 7}},
		"a supervisor of one jail":        {[]string{"jail-enter", "--forced"}, []string{"SSH_CONNECTION=" + connection}, own, wire.Caller{PID: 7, SSHD: true, Connection: []byte(connection)}},
		"a command":                       {[]string{"jail-enter", "--forced"}, []string{"SSH_CONNECTION=" + connection, "SSH_ORIGINAL_COMMAND=id -u\n\x1b"}, "caller", wire.Caller{PID: 7, SSHD: true, Connection: []byte(connection), Command: []byte("id -u\n\x1b")}},
		"a command by su":                 {[]string{"jail-enter", "-c", "make all"}, nil, "caller", wire.Caller{PID: 7, Command: []byte("make all")}},
		"a script by su":                  {[]string{"jail-enter", "a", "b c", "", "d"}, nil, "caller", wire.Caller{PID: 7, Command: []byte("a b c  d")}},
		"a script with a long name":       {[]string{"jail-enter", strings.Repeat("a", 9000), "b"}, nil, "caller", wire.Caller{PID: 7, Command: []byte(strings.Repeat("a", wire.MaxCommand))}},
		"a long command":                  {[]string{"jail-enter", "-c", strings.Repeat("x\n", 60_000)}, nil, "caller", wire.Caller{PID: 7, Command: []byte(strings.Repeat("x\n", wire.MaxCommand/2))}},
		"a connection that cannot be one": {[]string{"jail-enter", "--forced"}, []string{"SSH_CONNECTION=" + strings.Repeat("x", 1000)}, "caller", wire.Caller{PID: 7, SSHD: true}},
	} {
		for build, program := range map[string]string{"quick": quick, "run": run} {
			p := listen(t)
			l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(p.dir, c.socket), Net: "unixpacket"})
			require.NoError(t, err)
			cl := p.start(t, program, append([]string{c.argv[0], "--runtime-dir", p.dir}, c.argv[1:]...), c.env, nil)
			conn, _, passed := p.accept(t)
			sys.CloseAll(passed) // or its output would not end
			_, err = conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
			require.NoError(t, err)
			require.NoError(t, l.SetDeadline(time.Now().Add(20*time.Second)))
			said, err := l.AcceptUnix()
			require.NoError(t, err, "%s, %s", claim, build)
			require.NoError(t, said.SetDeadline(time.Now().Add(20*time.Second)))
			buf := make([]byte, wire.MaxCaller)
			n, err := said.Read(buf)
			require.NoError(t, err)
			typ, _, body, err := wire.Header(buf[:n])
			require.NoError(t, err)
			assert.Equal(t, wire.TypeCaller, typ)
			got, err := wire.DecodeCaller(body)
			require.NoError(t, err)
			for i := range got.Auth {
				got.Auth[i] = append([]byte(nil), got.Auth[i]...)
			}
			if len(got.Connection) == 0 {
				got.Connection = nil
			}
			got.Command = append([]byte(nil), got.Command...)
			assert.Equal(t, c.want, got, "%s, %s", claim, build)
			_, err = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
			require.NoError(t, err)
			assert.Equal(t, result{Status: 3}, cl.wait(t))
			said.Close()
			l.Close()
			conn.Close()
		}
	}
}

// TestCallerGoesWhereThereIsRoom: what is said goes to the login's own socket, and to that of
// all where there is none, nobody is behind it any more, or it is full.
func TestCallerGoesWhereThereIsRoom(t *testing.T) {
	quick, run := builds(t)
	for claim, own := range map[string]bool{"there is room": true, "full": false, "nobody's": false} {
		for build, program := range map[string]string{"quick": quick, "run": run} {
			p := listen(t)
			calls, err := sys.Datagram()
			require.NoError(t, err)
			path := filepath.Join(p.dir, strconv.Itoa(os.Getuid()), "calls")
			require.NoError(t, syscall.Bind(calls, &syscall.SockaddrUnix{Name: path}))
			switch claim {
			case "full":
				for e := sys.Errno(0); e != syscall.EAGAIN; e = sys.SendTo([]byte(path), []byte{0}) {
					require.Zero(t, e)
				}
			case "nobody's":
				sys.Close(calls)
			}
			l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(p.dir, "caller"), Net: "unixpacket"})
			require.NoError(t, err)
			cl := p.start(t, program, []string{"jail-enter", "--runtime-dir", p.dir}, nil, nil)
			conn, _, passed := p.accept(t)
			sys.CloseAll(passed) // or its output would not end
			_, err = conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
			require.NoError(t, err)
			_, err = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
			require.NoError(t, err)
			assert.Equal(t, result{Status: 3}, cl.wait(t))
			want := wire.AppendCaller(nil, &wire.Caller{PID: 7})
			buf := make([]byte, wire.MaxCaller)
			if own {
				n, _, err := syscall.Recvfrom(calls, buf, syscall.MSG_DONTWAIT)
				require.NoError(t, err, build)
				assert.Equal(t, want, buf[:n])
				require.NoError(t, l.SetDeadline(time.Now()))
				_, err = l.AcceptUnix()
				assert.Error(t, err, "said once")
			} else {
				require.NoError(t, l.SetDeadline(time.Now().Add(20*time.Second)))
				said, err := l.AcceptUnix()
				require.NoError(t, err, "%s, %s", claim, build)
				n, err := said.Read(buf)
				require.NoError(t, err)
				assert.Equal(t, want, buf[:n])
				said.Close()
			}
			l.Close()
			conn.Close()
			if claim != "nobody's" {
				sys.Close(calls)
			}
		}
	}
}

// TestASupervisorThatDoesNotListen: one whose queue is full is not waited for.
func TestASupervisorThatDoesNotListen(t *testing.T) {
	quick, run := builds(t)
	for build, program := range map[string]string{"quick": quick, "run": run} {
		p := listen(t)
		path := filepath.Join(p.dir, "caller")
		fd := fullListener(t, path)
		cl := p.start(t, program, []string{"jail-enter", "--runtime-dir", p.dir, "--forced"}, nil, nil)
		conn, _, passed := p.accept(t)
		sys.CloseAll(passed) // or its output would not end
		_, err := conn.Write(wire.AppendStarted(nil, wire.Started{PID: 7}))
		require.NoError(t, err)
		_, err = conn.Write(wire.AppendExited(nil, wire.Exited{Code: 3}))
		require.NoError(t, err)
		ended := make(chan result, 1)
		go func() { ended <- cl.wait(t) }()
		select {
		case r := <-ended:
			assert.Equal(t, result{Status: 3}, r, build)
		case <-time.After(20 * time.Second):
			cl.cmd.Process.Kill()
			t.Errorf("%s waits", build)
		}
		conn.Close()
		require.NoError(t, fd.Close())
	}
}

// fullListener is a socket whose queue has no room.
func fullListener(t *testing.T, path string) *os.File {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	for range 10 {
		c, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		t.Cleanup(func() { syscall.Close(c) })
		if err = syscall.Connect(c, &syscall.SockaddrUnix{Name: path}); err == syscall.EAGAIN {
			return os.NewFile(uintptr(fd), path)
		}
		require.NoError(t, err)
	}
	t.Fatal("it takes everybody")
	return nil
}
