package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
)

func opensshRows() []clientRow {
	const client = "openssh-client"
	return []clientRow{
		{name: "ssh", tests: client, scenario: sshCommands,
			does: "quoting, bytes both ways, separate standard error, statuses, a script on standard input, a terminal"},
		{name: "ssh, ControlMaster", tests: client, scenario: controlMaster,
			does: "ten sessions at once on one connection, each with its own input, output and status"},
		{name: "ssh -L, -R, -D, -W, -J", tests: client, scenario: forwards, block: "AllowTcpForwarding yes",
			does: "a web server inside through each of them, a client inside through -R, a session through a session"},
		{name: "ssh -L, -R of unix sockets", tests: client, scenario: streamLocal,
			intended: map[door]string{forced: "unix sockets", shipped: "unix sockets", login: "host's unix sockets"},
			does:     "a socket inside by its path, and a listening one there"},
		{name: "sftp", tests: client, scenario: sftpCommands,
			does: "put and get of a tree, paths absolute and relative, resumed transfers, chmod, rename, both kinds of links, removal, errors"},
		{name: "scp", tests: client, scenario: func(s *site) { scpTree(s, files|wild) },
			does: "a tree to and fro by the SFTP protocol, a name with blanks, a file that is not there"},
		{name: "scp -O", tests: client, inside: "scp", scenario: func(s *site) { scpTree(s, files, "-O") },
			does: "the same by the old protocol"},
		{name: "ssh-copy-id", tests: client, alone: true, scenario: func(s *site) { copyID(s) },
			intended: map[door]string{login: "administrator's keys"},
			does:     "a key, which then logs in"},
		{name: "ssh-copy-id -s", tests: client, alone: true, scenario: func(s *site) { copyID(s, "-s") },
			intended: map[door]string{login: "administrator's keys"},
			does:     "the same by sftp"},
	}
}

func sshCommands(s *site) {
	s.run("quoting", s.ssh(`printf '<%s>\n' "a  b" 'c"d' "it's" \$x '$y' -n é; printf '\377\0\n'`), "")
	s.run("status and errors", s.ssh("echo out; echo err >&2; exit 7"), "")
	s.run("a signal", s.ssh("kill -9 $$"), "")
	s.run("a script", s.client("ssh", "-F", s.config, "-T", "host"), "cd /\npwd\nexit 4\n")
	payload, _ := io.ReadAll(noise(1 << 20))
	r := s.run("bytes", s.ssh("cat"), string(payload))
	s.equal("bytes", sum(strings.NewReader(string(payload))), sum(strings.NewReader(r.stdout)))
	s.run("no input", s.client("ssh", "-n", "-F", s.config, "host", "cat; echo end"), "unread")
	s.run("a terminal", s.client("ssh", "-tt", "-F", s.config, "host", "test -t 0 && test -t 1 && test -t 2 && echo three; exit 5"), "")
	background := s.run("-f", s.client("ssh", "-f", "-F", s.config, "host", "cat; echo later; exit 6"), "unread")
	s.equal("status of -f", "0", fmt.Sprint(background.status))
}

func controlMaster(s *site) {
	const sessions = 10
	socket := s.local("ctl")
	master := s.start(s.client("ssh", "-F", s.config, "-M", "-N", "-S", socket, "host"))
	s.await("the master's socket", func() bool {
		_, err := os.Stat(socket)
		return err == nil || master.gone()
	})
	results := make([]result, sessions)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() {
			// Each waits until all the others are there.
			cmd := s.client("ssh", "-F", s.config, "-S", socket, "host", fmt.Sprintf(
				`cd %s && read line && : >here.%d && until test "$(echo here.*| wc -w)" -eq %d; do sleep 0.05; done; echo "$line"; echo error %d >&2; exit %d`,
				s.far, i, sessions, i, i))
			results[i] = runCommand(s.t, cmd, strings.NewReader(fmt.Sprintf("input %d\n", i)))
		})
	}
	all.Wait()
	for i, r := range results {
		s.equal(fmt.Sprintf("session %d", i), fmt.Sprint(result{fmt.Sprintf("input %d\n", i), fmt.Sprintf("error %d\n", i), i, ""}), fmt.Sprint(r))
	}
	s.run("a forward added later", s.client("ssh", "-F", s.config, "-S", socket, "-O", "forward", "-L", s.local("sock")+":127.0.0.1:1", "host"), "")
	s.run("exit", s.client("ssh", "-F", s.config, "-S", socket, "-O", "exit", "host"), "")
	s.await("the master ends", master.gone)
}

// tools puts the static busybox into the far directory: the same program for
// what has to run inside, in any tree.
func (s *site) tools() (path string) {
	s.t.Helper()
	require.NoError(s.t, command("install", "-m", "0755", filepath.Join(busyboxRoot, "bin/busybox"), s.remote("busybox")))
	return "./" + s.far + "/busybox"
}

// webServer starts a web server inside which ends with its session; on
// its one page is text.
func (s *site) webServer(text string) (port int) {
	s.t.Helper()
	busybox := s.tools()
	require.NoError(s.t, os.WriteFile(s.remote("index.html"), []byte(text), 0o644))
	port = quietPort(s.t)
	cmd := s.ssh(fmt.Sprintf("%s httpd -f -p 127.0.0.1:%d -h %s </dev/null >/dev/null 2>&1 & cat >/dev/null; kill $!", busybox, port, s.far))
	stdin, err := cmd.StdinPipe() // it serves until this is closed
	require.NoError(s.t, err)
	s.t.Cleanup(func() { stdin.Close() })
	server := s.start(cmd)
	s.await("the web server inside", func() bool {
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil || server.gone()
	})
	if server.gone() {
		s.note("no web server: %s%s", server.stdout.String(), server.stderr.String())
		s.stop()
	}
	return port
}

func forwards(s *site) {
	const page = "from inside\n"
	port := s.webServer(page)
	target := fmt.Sprintf("127.0.0.1:%d", port)
	local, socks := quietPort(s.t), quietPort(s.t)
	forwarding := s.start(s.client("ssh", "-F", s.config, "-N", "-o", "ExitOnForwardFailure=yes",
		"-L", fmt.Sprintf("127.0.0.1:%d:%s", local, target), "-D", fmt.Sprintf("127.0.0.1:%d", socks), "host"))
	for _, p := range []int{local, socks} {
		s.await("the forwarded port", func() bool {
			conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", p))
			if err == nil {
				conn.Close()
			}
			return err == nil || forwarding.gone()
		})
	}
	curl := func(args ...string) result {
		r := runCommand(s.t, s.client("curl", append([]string{"-sS", "--max-time", "20"}, args...)...), nil)
		return result{stdout: r.stdout, stderr: r.stderr, status: r.status}
	}
	s.equal("-L", fmt.Sprint(result{stdout: page}), fmt.Sprint(curl(fmt.Sprintf("http://127.0.0.1:%d/", local))))
	s.equal("-D", fmt.Sprint(result{stdout: page}), fmt.Sprint(curl("--socks5-hostname", fmt.Sprintf("127.0.0.1:%d", socks), "http://"+target+"/")))

	direct := runCommand(s.t, s.client("ssh", "-F", s.config, "-W", target, "host"), strings.NewReader("GET / HTTP/1.0\r\n\r\n"))
	s.equal("-W", "true 0", fmt.Sprint(strings.HasSuffix(direct.stdout, "\r\n\r\n"+page), " ", direct.status))

	through := s.writeConfig("through", keyFile, "ProxyJump "+fmt.Sprintf("%s@127.0.0.1:%d", s.user(), s.port))
	// The jump's ssh is given this configuration too, so it must not jump itself.
	text := strings.Replace(contents(through), "Host *\n", "Host *\n\tUser "+s.user()+"\n", 1)
	require.NoError(s.t, os.WriteFile(through, []byte(text), 0o600))
	s.run("-J", s.client("ssh", "-F", through, "host", "cat; exit 9"), "through two\n")

	// A client inside, a server here.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(s.t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.WriteString(conn, "hello\n")
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	back := s.start(s.client("ssh", "-F", s.config, "-N", "-o", "LogLevel=INFO", "-R", "127.0.0.1:0:"+l.Addr().String(), "host"))
	allocated := regexp.MustCompile(`Allocated port (\d+)`)
	s.await("the port there", func() bool { return allocated.MatchString(back.stderr.String()) || back.gone() })
	m := allocated.FindStringSubmatch(back.stderr.String())
	if m == nil {
		s.note("-R: %s", back.stderr.String())
		s.stop()
	}
	s.run("-R", s.ssh(fmt.Sprintf("./%s/busybox nc 127.0.0.1 %s", s.far, m[1])), "to and fro\n")
}

// streamLocal forwards to and from unix sockets inside.
func streamLocal(s *site) {
	path := s.account().home + "/" + s.far + "/sock"
	asked := s.client("ssh", "-F", s.config, "-o", "ExitOnForwardFailure=yes", "-R", path+":127.0.0.1:1", "host", "test -S "+path+" && echo is there")
	s.run("-R of a path", asked, "")
	os.Remove(s.remote("sock"))
	// Inside is a socket to connect to; by its path on the host it is somewhere else.
	l, err := net.Listen("unix", filepath.Join(s.there, "s"))
	require.NoError(s.t, err)
	defer l.Close()
	require.NoError(s.t, os.Chown(filepath.Join(s.there, "s"), s.account().id, s.account().id))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "from the socket\n")
			conn.Close()
		}
	}()
	port := quietPort(s.t)
	forwarding := s.start(s.client("ssh", "-F", s.config, "-N", "-L", fmt.Sprintf("127.0.0.1:%d:%s/%s/s", port, s.account().home, s.far), "host"))
	var conn net.Conn
	s.await("the forwarded port", func() bool {
		conn, err = net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil || forwarding.gone()
	})
	require.NoError(s.t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(deadline))
	text, err := io.ReadAll(conn)
	s.note("-L of a path: %q %v", text, err)
}

// sftp is OpenSSH's sftp with a batch of commands.
func (s *site) sftp(what, batch string) result {
	s.t.Helper()
	return s.runSorted(what, s.client("sftp", "-F", s.config, "-b", "-", "host"), batch)
}

func sftpCommands(s *site) {
	sent := s.load("cargo", files|wild)
	if r := s.sftp("put", "put -Rp cargo "+s.far+"/\n"); r.status != 0 {
		s.stop()
	}
	s.arrived(sent, "cargo", true)
	s.sftp("get", "get -Rp "+s.account().home+"/"+s.far+"/cargo back\n")
	s.returned(sent, "back", true)

	// Half of a file is there already, at either end.
	whole := contents(filepath.Join(sent, "sub dir/deeper/noise"))
	require.NoError(s.t, writeOwner(s.remote("half"), whole[:300_000], s.account().id))
	require.NoError(s.t, os.WriteFile(s.local("half"), []byte(whole[:300_000]), 0o644))
	s.sftp("resume", fmt.Sprintf("reput \"cargo/sub dir/deeper/noise\" %s/half\nreget \"%s/cargo/sub dir/deeper/noise\" half\n", s.far, s.far))
	s.equal("resumed there", sum(strings.NewReader(whole)), fileSum(s.remote("half")))
	s.equal("resumed here", sum(strings.NewReader(whole)), fileSum(s.local("half")))

	s.sftp("the rest", strings.ReplaceAll(`pwd
cd FAR
mkdir new
chmod 711 new
put cargo/plain "new/a b"
chmod 600 "new/a b"
rename "new/a b" "new/it's"
symlink "it's" new/sym
ln "new/it's" new/hard
ls -1 new
lpwd
cd new
pwd
`, "FAR", s.far))
	s.note("made: %s", manifest(s.remote("new"), false))
	s.sftp("removal", "rm "+s.far+"/new/*\nrmdir "+s.far+"/new\n")
	s.sftp("errors", "-get nosuchfile\n-ls /root\n-rm /etc/passwd\n-put cargo/plain /etc/x\n-get /etc/shadow\ncd nosuchdir\n")
	s.equal("/etc/passwd inside", fileSum(filepath.Join(s.root(), "etc/passwd")), s.passwdBySFTP())
}

// passwdBySFTP tells whose files are served: each tree has its own passwd.
func (s *site) passwdBySFTP() string {
	runCommand(s.t, s.client("sftp", "-F", s.config, "-b", "-", "host"), strings.NewReader("get /etc/passwd passwd\n"))
	return fileSum(s.local("passwd"))
}

func scpTree(s *site, kind cargo, options ...string) {
	sent := s.load("cargo", kind)
	scp := func(args ...string) []string {
		return append(append([]string{"-F", s.config, "-q"}, options...), args...)
	}
	s.must("there", s.client("scp", scp("-rp", "cargo", "host:"+s.far+"/")...), "")
	s.arrived(sent, "cargo", true)
	s.must("back", s.client("scp", scp("-rp", "host:"+s.far+"/cargo", "back")...), "")
	s.returned(sent, "back", true)
	name := s.account().home + "/" + s.far + "/cargo/sub dir/it's"
	if len(options) > 0 { // the old protocol's name is the shell's to read
		name = strings.NewReplacer(" ", `\ `, "'", `\'`).Replace(name)
	}
	s.must("one", s.client("scp", scp("host:"+name, "one")...), "")
	s.equal("one", "apostrophe\n", contents(s.local("one")))
	s.run("a pattern", s.client("scp", scp("host:"+s.far+"/cargo/[er]*", s.dir)...), "")
	s.run("what is not there", s.client("scp", scp("host:nosuchfile", "x")...), "")
	s.run("to where nobody may write", s.client("scp", scp("one", "host:/etc/one")...), "")
	s.run("between two", s.client("scp", scp("-3", "host:"+s.far+"/cargo/plain", "host:"+s.far+"/copy")...), "")
	s.equal("copy", "plain\n", contents(s.remote("copy")))
}

// copyID gives the login one more key.
func copyID(s *site, options ...string) {
	file := filepath.Join(s.root(), s.account().home, ".ssh/authorized_keys")
	before := contents(file)
	defer func() { require.NoError(s.t, os.WriteFile(file, []byte(before), 0o600)) }()
	key := s.local("new key")
	require.NoError(s.t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a new key", "-f", key))
	cmd := s.client("ssh-copy-id", append(options, "-f", "-F", s.config, "-i", key+".pub", "host")...)
	r := runCommand(s.t, cmd, nil)
	if r.status != 0 {
		s.note("ssh-copy-id: status %d: %s%s", r.status, r.stdout, r.stderr)
		s.stop()
	}
	s.equal("authorized_keys", before+contents(key+".pub"), contents(file))
	s.run("the new key", s.client("ssh", "-F", s.writeConfig("new", `"`+key+`"`), "-o", "LogLevel=FATAL", "host", "echo in"), "")
}
