package e2e

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gosftp "github.com/pkg/sftp"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func libraryRows() []clientRow {
	return []clientRow{
		{name: "curl", tests: "curl", scenario: curlTransfers,
			does: "upload and download by libssh2, ranges, rename, directories, a list, errors"},
		{name: "paramiko", tests: "python3-paramiko", scenario: func(s *site) { paramiko(s, "exec") },
			does: "commands with their three streams, statuses and signals, an empty command, half-close, a terminal resized before its command, a shell"},
		{name: "paramiko, SFTP", tests: "python3-paramiko", scenario: func(s *site) { paramiko(s, "sftp") },
			does: "put, get, modes, links, renames, lists, a big file with many requests under way, errors"},
		{name: "golang.org/x/crypto/ssh", tests: "golang.org/x/crypto", scenario: cryptoSSH,
			does: "an empty command, signals a command dies of, a window changed before the start, an environment, ten channels at once, an unknown subsystem"},
		{name: "golang.org/x/crypto/ssh, signal", tests: "golang.org/x/crypto", scenario: cryptoSignal,
			intended: map[door]string{forced: "signals", shipped: "signals"},
			does:     "a signal sent to a command"},
		{name: "github.com/pkg/sftp", tests: "github.com/pkg/sftp", scenario: pkgSFTP,
			does: "walk, write at offsets, read, modes, links, POSIX rename, truncation, file system statistics"},
	}
}

func curlTransfers(s *site) {
	sent := s.load("cargo", files)
	url := fmt.Sprintf("sftp://%s@127.0.0.1:%d/~/%s/", s.user(), s.port, s.far)
	curl := func(what string, args ...string) result {
		return s.run(what, s.client("curl", append([]string{"-sS", "--max-time", "20", "--key", keyFile, "--pubkey", keyFile + ".pub"}, args...)...), "")
	}
	noise := filepath.Join(sent, "sub dir/deeper/noise")
	if r := curl("put", "--ftp-create-dirs", "-T", noise, url+"new%20dir/it's"); r.status != 0 {
		s.stop()
	}
	s.equal("there", fileSum(noise), fileSum(s.remote("new dir/it's")))
	curl("get", "-o", "back", url+"new%20dir/it's")
	s.equal("back", fileSum(noise), fileSum(s.local("back")))
	curl("range", "-r", "100-199", "-o", "range", url+"new%20dir/it's")
	s.equal("range", contents(noise)[100:200], contents(s.local("range")))
	require.NoError(s.t, os.WriteFile(s.local("half"), []byte(contents(noise)[:300_000]), 0o600))
	curl("resume", "-C", "-", "-o", "half", url+"new%20dir/it's")
	s.equal("resumed", fileSum(noise), fileSum(s.local("half")))
	there := s.account().home + "/" + s.far
	curl("commands", "-Q", fmt.Sprintf(`rename "%s/new dir/it's" "%s/moved"`, there, there), "-Q", fmt.Sprintf(`chmod 640 "%s/moved"`, there),
		"-Q", fmt.Sprintf(`symlink moved "%s/sym"`, there), "-o", "list", "-l", url)
	s.note("list: %q", sortedLines(contents(s.local("list"))))
	s.note("there: %s", manifest(s.there, false))
	curl("what is not there", "-o", "x", url+"nosuchfile")
	curl("what nobody may read", "-o", "x", fmt.Sprintf("sftp://%s@127.0.0.1:%d/etc/shadow", s.user(), s.port))
}

//go:embed testdata/client/paramiko.py
var paramikoScript string

func paramiko(s *site, part string) {
	s.load("cargo", files)
	cmd := s.client("/usr/bin/python3", "-c", paramikoScript, part, fmt.Sprint(s.port), s.user(), keyFile, s.far, s.local(".ssh/known_hosts"))
	s.must(part, cmd, "")
	if part == "sftp" {
		s.note("there: %s", manifest(s.there, false))
		s.equal("back", fileSum(s.local("cargo/sub dir/deeper/noise")), fileSum(s.local("back")))
	}
}

// goClient is a connection of the Go client to this place.
func (s *site) goClient() *ssh.Client {
	s.t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(contents(keyFile)))
	require.NoError(s.t, err)
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(contents(sshDir + "/host_key.pub")))
	require.NoError(s.t, err)
	c, err := ssh.Dial("tcp4", net.JoinHostPort("127.0.0.1", fmt.Sprint(s.port)), &ssh.ClientConfig{
		User: s.user(), Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostKey), Timeout: deadline,
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// goRun holds a session of the Go client, and notes its result.
func (s *site) goRun(c *ssh.Client, what string, prepare func(*ssh.Session), command, stdin string) {
	s.t.Helper()
	session, err := c.NewSession()
	require.NoError(s.t, err)
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if prepare != nil {
		prepare(session)
	}
	err = session.Start(command)
	if err == nil {
		err = session.Wait()
	}
	s.note("%s: %v, stdout %s, stderr %s", what, errorText(err), s.brief(stdout.String()), s.brief(stderr.String()))
}

func errorText(err error) string {
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("status %d, signal %q, message %q", exit.ExitStatus(), exit.Signal(), exit.Msg())
	}
	return fmt.Sprint(err)
}

func cryptoSSH(s *site) {
	c := s.goClient()
	s.goRun(c, "an empty command", nil, "", "exit 3\n")
	s.goRun(c, "a command", nil, "cat; echo err >&2; exit 255", "in")
	for _, signal := range []string{"TERM", "KILL", "HUP", "INT", "PIPE", "SEGV", "ABRT", "USR1", "40"} {
		s.goRun(c, "death by "+signal, nil, "kill -"+signal+" $$; sleep 5", "")
	}
	s.goRun(c, "window", func(session *ssh.Session) {
		require.NoError(s.t, session.RequestPty("vt220", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}))
		require.NoError(s.t, session.WindowChange(33, 111))
	}, "stty size; echo $TERM", "")
	s.goRun(c, "environment", func(session *ssh.Session) {
		require.NoError(s.t, session.Setenv("LC_TEST", "a=b\nc"))
		s.note("LD_PRELOAD: %v", session.Setenv("LD_PRELOAD", "/x.so"))
	}, `echo "$LC_TEST,$LD_PRELOAD"`, "")
	session, err := c.NewSession()
	require.NoError(s.t, err)
	s.note("subsystem: %v", session.RequestSubsystem("nosuchsubsystem"))
	session.Close()

	// Channels of one connection, each waiting for the next one.
	const channels = 10
	var ends []chan error
	var outputs []*bytes.Buffer
	for i := range channels {
		session, err := c.NewSession()
		require.NoError(s.t, err)
		defer session.Close()
		out := new(bytes.Buffer)
		session.Stdout = out
		require.NoError(s.t, session.Start(fmt.Sprintf("cd %s; : >c%d; until test -e c%d; do sleep 0.05; done; echo %d; exit %d", s.far, i, (i+1)%channels, i, i)))
		end := make(chan error, 1)
		go func() { end <- session.Wait() }()
		ends, outputs = append(ends, end), append(outputs, out)
	}
	for i, end := range ends {
		select {
		case err := <-end:
			s.note("channel %d: %s %q", i, errorText(err), outputs[i].String())
		case <-time.After(deadline):
			s.note("channel %d does not end", i)
			s.stop()
		}
	}
}

func cryptoSignal(s *site) {
	c := s.goClient()
	session, err := c.NewSession()
	require.NoError(s.t, err)
	defer session.Close()
	stdin, err := session.StdinPipe()
	require.NoError(s.t, err)
	stdout, err := session.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, session.Start("trap 'echo trapped; exit 4' TERM; echo ready; read line; echo $line; exit 5"))
	ready := make([]byte, len("ready\n"))
	_, err = io.ReadFull(stdout, ready)
	require.NoError(s.t, err)
	require.NoError(s.t, session.Signal(ssh.SIGTERM)) // which asks for no answer
	// A keepalive has one, and comes after it.
	c.SendRequest("keepalive@openssh.com", true, nil)
	time.AfterFunc(300*time.Millisecond, func() { io.WriteString(stdin, "not trapped\n") })
	rest, err := io.ReadAll(stdout)
	require.NoError(s.t, err)
	s.note("signal: %q, %s", rest, errorText(session.Wait()))
}

func pkgSFTP(s *site) {
	sent := s.load("cargo", files)
	c, err := gosftp.NewClient(s.goClient())
	if err != nil {
		// What sshd discards of a subsystem's errors, a command shows.
		s.note("no sftp: %v", err)
		s.stop()
	}
	defer c.Close()
	note := func(what string, err error) { s.note("%s: %v", what, err) }
	wd, err := c.Getwd()
	s.note("Getwd: %s %v", wd, err)
	note("MkdirAll", c.MkdirAll(s.far+"/a/b c/d\ne"))
	name := s.far + "/a/b c/d\ne/noise"
	f, err := c.Create(name)
	if err != nil {
		note("Create", err)
		s.stop()
	}
	noise := contents(filepath.Join(sent, "sub dir/deeper/noise"))
	n, err := f.ReadFrom(strings.NewReader(noise))
	s.note("ReadFrom: %d %v", n, err)
	_, err = f.WriteAt([]byte("in the middle"), 100_000)
	note("WriteAt", err)
	note("Truncate", f.Truncate(600_000))
	note("Chmod", f.Chmod(0o640))
	note("Close", f.Close())
	note("Chtimes", c.Chtimes(name, cargoTime, cargoTime))
	note("Rename", c.Rename(name, s.far+"/moved"))
	note("PosixRename", c.PosixRename(s.far+"/moved", s.far+"/a/it's"))
	note("Symlink", c.Symlink("it's", s.far+"/a/sym"))
	note("Link", c.Link(s.far+"/a/it's", s.far+"/a/hard"))
	target, err := c.ReadLink(s.far + "/a/sym")
	s.note("ReadLink: %q %v", target, err)
	real, err := c.RealPath(s.far + "/a/../a/b c")
	s.note("RealPath: %q %v", real, err)
	back, err := c.Open(s.far + "/a/sym")
	if err == nil {
		var text bytes.Buffer
		_, err = back.WriteTo(&text)
		want := noise[:100_000] + "in the middle" + noise[100_013:600_000]
		s.equal("back", sum(strings.NewReader(want)), sum(&text))
		back.Close()
	}
	note("Open", err)
	var walked []string
	for walker := c.Walk(s.far); walker.Step(); {
		if walker.Err() != nil {
			note("Walk", walker.Err())
			continue
		}
		walked = append(walked, fmt.Sprintf("%q %v", walker.Path(), walker.Stat().Mode()))
	}
	slices.Sort(walked)
	s.note("Walk: %s", walked)
	s.note("there: %s", manifest(s.there, true))
	_, err = c.StatVFS("/")
	note("StatVFS", err)
	note("Remove", c.Remove(s.far+"/a/sym"))
	note("RemoveDirectory, not empty", c.RemoveDirectory(s.far+"/a"))
	note("RemoveAll", c.RemoveAll(s.far+"/a"))
	_, err = c.Open("/etc/shadow")
	note("what nobody may read", err)
	_, err = c.Open("nosuchfile")
	note("what is not there", err)
}
