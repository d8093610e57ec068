package e2e

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"
)

// toolRows are backup programs, version control, editors and the libraries that other
// languages have.
func toolRows() []clientRow {
	return []clientRow{
		{name: "TRAMP", tests: "emacs-nox", scenario: tramp,
			does: "a file written, read, copied and renamed through a shell, a directory listed, commands with statuses, a shell in a terminal"},
		{name: "rclone", tests: "rclone", scenario: rcloneTree,
			does: "a tree copied both ways, checked by sums made there, synchronised, listed"},
		{name: "restic", tests: "restic", scenario: resticRepository,
			does: "a backup, a second one, a check, and its return"},
		{name: "unison", tests: "unison-2.52", inside: "unison", scenario: unisonPair,
			does: "two trees made one, changes on both sides, a conflict"},
		{name: "duplicity", tests: "duplicity", scenario: duplicityBackup,
			does: "a full and an incremental backup by sftp, a verification, and their return"},
		{name: "lftp", tests: "lftp", scenario: lftpMirror,
			does: "a tree mirrored both ways, rename, chmod, removal, what is not there"},
		{name: "mercurial", tests: "mercurial", inside: "hg", scenario: mercurialRepository,
			does: "init, push, clone, pull, a push that would make a head, a repository that is not there"},
		{name: "subversion", tests: "subversion", inside: "svnserve", scenario: subversionRepository,
			does: "checkout, commit, update and log by svn+ssh, a repository that is not there"},
		{name: "git-annex", tests: "git-annex", inside: "git-annex-shell", scenario: gitAnnex,
			does: "contents moved to a repository there and got back by git-annex-shell"},
		{name: "asyncssh", tests: "python3-asyncssh", scenario: func(s *site) { script(s, "/usr/bin/python3", "script.py", asyncsshScript) },
			does: "commands with their three streams, statuses and signals, a terminal with input sent at once, ten at a time, SFTP and its errors"},
		{name: "Net::SSH", tests: "ruby-net-ssh", scenario: func(s *site) { script(s, "ruby", "netssh.rb", netsshScript) },
			does: "commands with their three streams and statuses, a terminal with input sent at once, SFTP and its errors"},
		{name: "ssh2 of node.js", tests: "ssh2", scenario: func(s *site) { script(s, "node", "ssh2.js", ssh2Script) },
			does: "commands with their three streams, statuses and signals, a terminal with input sent at once, SFTP and its errors"},
		{name: "JSch", tests: "libjsch-java", scenario: jsch,
			does: "commands with their three streams and statuses, a terminal with input sent at once, SFTP and its errors"},
		{name: "libssh", tests: "qemu-block-extra", scenario: libssh,
			does: "a disk image made, written and read by qemu"},
	}
}

var (
	//go:embed testdata/client/tramp.el
	trampScript string
	//go:embed testdata/client/asyncssh.py
	asyncsshScript string
	//go:embed testdata/client/netssh.rb
	netsshScript string
	//go:embed testdata/client/ssh2.js
	ssh2Script string
	//go:embed testdata/client/Jsch.java
	jschScript string
)

// wrapped is a client that finds an ssh on its way which knows the host "host",
// for programs that do not let themselves be told a configuration.
func (s *site) wrapped(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	bin := s.local("bin")
	require.NoError(s.t, os.MkdirAll(bin, 0o755))
	for _, program := range []string{"ssh", "sftp", "scp"} {
		text := fmt.Sprintf("#!/bin/sh\nexec /usr/bin/%s -F %s \"$@\"\n", program, s.config)
		require.NoError(s.t, os.WriteFile(filepath.Join(bin, program), []byte(text), 0o755))
	}
	cmd := s.client(name, args...)
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"))
	return cmd
}

// quietly notes a client's status, and what it printed if it failed, for one that
// prints times and speeds.
func (s *site) quietly(what string, cmd *exec.Cmd) {
	s.t.Helper()
	r := runCommand(s.t, cmd, nil)
	s.note("%s: status %d", what, r.status)
	if r.status != 0 {
		s.note("%s", strings.TrimSpace(r.stdout+"\n"+r.stderr))
		s.stop()
	}
}

// script runs a program of testdata against this place, from a file in the client's
// directory. Its arguments are the port, the user, the key, the far directory and the
// file of known hosts.
func script(s *site, interpreter, name, text string) {
	s.t.Helper()
	s.load("cargo", files)
	require.NoError(s.t, os.WriteFile(s.local(name), []byte(text), 0o644))
	scriptBy(s, keyFile, interpreter, name)
}

// npmDir is where deps.sh puts the modules of node.js.
func npmDir() string { return filepath.Join(world.scratch, "npm", "node_modules") }

func scriptBy(s *site, key, interpreter string, arguments ...string) {
	s.t.Helper()
	cmd := s.client(interpreter, append(arguments, fmt.Sprint(s.port), s.user(), key, s.far, s.local(".ssh/known_hosts"))...)
	cmd.Env = append(cmd.Env, "NODE_PATH="+npmDir())
	s.must(arguments[len(arguments)-1], cmd, "")
	s.note("there: %s", manifest(s.there, false))
	s.equal("back", fileSum(s.local("cargo/sub dir/deeper/noise")), fileSum(s.local("back")))
}

func tramp(s *site) {
	require.NoError(s.t, os.WriteFile(s.local("tramp.el"), []byte(trampScript), 0o644))
	cmd := s.wrapped("emacs", "-Q", "--batch", "-l", s.local("tramp.el"))
	cmd.Env = append(cmd.Env, "FAR="+s.account().home+"/"+s.far, "EMACS=emacs")
	r := runCommand(s.t, cmd, nil)
	s.note("status %d, %s", r.status, s.brief(r.stdout))
	if r.status != 0 {
		s.note("%s", r.stderr)
		s.stop()
	}
	s.note("there: %s", manifest(s.there, false))
}

func rcloneTree(s *site) {
	sent := s.load("cargo", files)
	require.NoError(s.t, os.Chmod(filepath.Join(sent, "shut/group"), 0o644)) // modes are not carried
	rclone := func(what string, args ...string) {
		cmd := s.client("rclone", args...)
		cmd.Env = append(cmd.Env, "RCLONE_CONFIG="+s.local("rclone.conf"), "RCLONE_CONFIG_H_TYPE=sftp", "RCLONE_CONFIG_H_HOST=127.0.0.1",
			fmt.Sprintf("RCLONE_CONFIG_H_PORT=%d", s.port), "RCLONE_CONFIG_H_USER="+s.user(), "RCLONE_CONFIG_H_KEY_FILE="+keyFile,
			"RCLONE_CONFIG_H_KNOWN_HOSTS_FILE="+s.local(".ssh/known_hosts"), "RCLONE_CREATE_EMPTY_SRC_DIRS=true")
		s.quietly(what, cmd)
	}
	require.NoError(s.t, os.WriteFile(s.local("rclone.conf"), nil, 0o600))
	rclone("copy", "copy", "cargo", "h:"+s.far+"/cargo")
	rclone("check", "check", "cargo", "h:"+s.far+"/cargo")
	s.equal("noise", fileSum(filepath.Join(sent, "sub dir/deeper/noise")), fileSum(s.remote("cargo/sub dir/deeper/noise")))
	rclone("back", "copy", "h:"+s.far+"/cargo", "back")
	rclone("check back", "check", "--download", "h:"+s.far+"/cargo", "back")
	require.NoError(s.t, os.Remove(filepath.Join(sent, "plain")))
	rclone("sync", "sync", "cargo", "h:"+s.far+"/cargo")
	_, err := os.Stat(s.remote("cargo/plain"))
	s.equal("deleted", "true", fmt.Sprint(os.IsNotExist(err)))
	rclone("moveto", "moveto", "h:"+s.far+"/cargo/run", "h:"+s.far+"/it's moved")
	rclone("purge", "purge", "h:"+s.far+"/cargo")
	s.note("there: %s", manifest(s.there, false))
}

func resticRepository(s *site) {
	sent := s.load("cargo", files|links|wild)
	restic := func(what string, args ...string) {
		// The command is taken apart at spaces, and is all there is of ssh.
		repo := "sftp:host:" + s.account().home + "/" + s.far + "/repo"
		cmd := s.client("restic", append([]string{"-q", "-r", repo, "-o", "sftp.command=ssh -F " + s.config + " host -s sftp"}, args...)...)
		cmd.Env = append(cmd.Env, "RESTIC_PASSWORD=secret", "XDG_CACHE_HOME="+s.local("cache"))
		s.quietly(what, cmd)
	}
	restic("init", "init")
	restic("backup", "backup", "cargo")
	require.NoError(s.t, os.WriteFile(filepath.Join(sent, "more"), []byte("more\n"), 0o644))
	restic("backup again", "backup", "cargo")
	restic("check", "check", "--read-data")
	restic("restore", "restore", "latest", "--target", "back")
	s.equal("tree, back", manifest(sent, false), manifest(s.local("back/cargo"), false))
	restic("forget", "forget", "--prune", "--keep-last", "1")
}

func unisonPair(s *site) {
	sent := s.load("cargo", files)
	require.NoError(s.t, os.Chmod(filepath.Join(sent, "shut"), 0o755))
	unison := func(what string, status int) {
		cmd := s.wrapped("unison", "cargo", "ssh://host//"+strings.TrimPrefix(s.account().home, "/")+"/"+s.far+"/cargo",
			"-batch", "-auto", "-times", "-ui", "text", "-contactquietly", "-log=false", "-terse")
		r := runCommand(s.t, cmd, nil)
		s.note("%s: status %d", what, r.status)
		if r.status != status {
			s.note("%s%s", r.stdout, r.stderr)
			s.stop()
		}
	}
	s.must("unison", s.ssh("unison -version >/dev/null && echo there"), "")
	unison("there", 0)
	s.arrived(sent, "cargo", false)
	require.NoError(s.t, os.WriteFile(filepath.Join(sent, "mine"), []byte("mine\n"), 0o644))
	s.must("theirs", s.ssh("cd "+s.far+"/cargo && echo theirs >theirs && rm plain"), "")
	unison("both ways", 0)
	s.arrived(sent, "cargo", false)
	require.NoError(s.t, os.WriteFile(filepath.Join(sent, "run"), []byte("here\n"), 0o755))
	s.must("conflict", s.ssh("cd "+s.far+"/cargo && echo there >run"), "")
	unison("a conflict", 1)
	s.note("%q %q", contents(filepath.Join(sent, "run")), contents(s.remote("cargo/run")))
}

func duplicityBackup(s *site) {
	sent := s.load("cargo", files)
	duplicity := func(what string, args ...string) {
		cmd := s.wrapped("duplicity", append(args, "--no-encryption", "--archive-dir="+s.local("archive"), "--tempdir="+s.dir,
			"--ssh-options=-F "+s.config)...)
		s.quietly(what, cmd)
	}
	url := "pexpect+sftp://host/" + s.far + "/backup"
	duplicity("full", "full", "cargo", url)
	require.NoError(s.t, os.WriteFile(filepath.Join(sent, "more"), []byte("more\n"), 0o644))
	duplicity("incremental", "incremental", "cargo", url)
	duplicity("verify", "verify", "--compare-data", url, "cargo")
	duplicity("restore", "restore", url, "back")
	s.equal("tree, back", manifest(sent, true), manifest(s.local("back"), true))
	duplicity("collection", "collection-status", url)
}

func lftpMirror(s *site) {
	sent := s.load("cargo", files)
	lftp := func(what, commands string) {
		cmd := s.client("lftp", "-c", fmt.Sprintf("set net:max-retries 1; set net:timeout 20; set cmd:fail-exit yes; set ftp:sync-mode off; set sftp:charset UTF-8; "+
			"set sftp:connect-program \"ssh -a -x -F %s\"; open sftp://%s:@host; cd %s; %s", s.config, s.user(), s.far, commands))
		s.quietly(what, cmd)
	}
	lftp("there", "mirror -R cargo")
	s.arrived(sent, "cargo", true)
	lftp("back", "mirror cargo back")
	s.returned(sent, "back", true)
	lftp("commands", `mv "cargo/plain" "it's moved"; chmod 611 "it's moved"; mkdir "new dir"; rm -r cargo/shut; put -O "new dir" cargo/run; get "new dir/run" -o got`)
	s.equal("got", contents(filepath.Join(sent, "run")), contents(s.local("got")))
	s.note("there: %s", manifest(s.there, false))
	r := runCommand(s.t, s.client("lftp", "-c", fmt.Sprintf("set net:max-retries 1; set sftp:connect-program \"ssh -a -x -F %s\"; open sftp://%s:@host; get nosuchfile", s.config, s.user())), nil)
	s.note("what is not there: status %d, %t", r.status, strings.Contains(r.stderr, "No such file"))
}

func mercurialRepository(s *site) {
	s.load("work", files|links)
	hg := func(args ...string) *exec.Cmd {
		cmd := s.client("hg", append([]string{"--config", "ui.ssh=ssh -F " + s.config, "--config", "ui.username=a <a@x>"}, args...)...)
		cmd.Env = append(cmd.Env, "HGPLAIN=1", "HGRCPATH=")
		return cmd
	}
	url := "ssh://host/" + s.far + "/repo"
	s.must("hg", s.ssh("hg --version -q >/dev/null && echo there"), "")
	s.must("init there", hg("init", url), "")
	s.must("init", hg("init", "work"), "")
	s.must("commit", hg("-R", "work", "commit", "-q", "-A", "-d", "1000000000 0", "-m", "first"), "")
	s.must("push", hg("-R", "work", "push", "-q", url), "")
	s.must("clone", hg("clone", "-q", url, "copy"), "")
	s.must("same", hg("-R", "copy", "log", "-T", "{node} {desc}\n"), "")
	s.must("other", hg("-R", "copy", "-q", "tag", "-d", "1000000001 0", "one"), "")
	s.must("push back", hg("-R", "copy", "push", "-q"), "")
	s.must("more", hg("-R", "work", "-q", "tag", "-d", "1000000002 0", "two"), "")
	r := runCommand(s.t, hg("-R", "work", "push", url), nil)
	s.note("a push that would make a head: status %d, %t", r.status, strings.Contains(r.stderr, "push creates new remote head"))
	s.must("pull", hg("-R", "work", "pull", "-q", url), "")
	r = runCommand(s.t, hg("clone", "ssh://host/nosuchrepo", "x"), nil)
	s.note("what is not there: status %d, %t", r.status, strings.Contains(r.stdout+r.stderr, "no suitable response from remote hg"))
}

func subversionRepository(s *site) {
	s.load("cargo", files)
	svn := func(args ...string) *exec.Cmd {
		cmd := s.client("svn", append([]string{"--non-interactive", "--config-dir", s.local("config.svn")}, args...)...)
		cmd.Env = append(cmd.Env, "SVN_SSH=ssh -F "+s.config)
		return cmd
	}
	url := "svn+ssh://host" + s.account().home + "/" + s.far + "/repo"
	s.must("svnserve", s.ssh("svnserve --version -q >/dev/null && svnadmin create "+s.far+"/repo && echo made"), "")
	s.must("import", svn("import", "-q", "-m", "first", "cargo", url+"/trunk"), "")
	s.must("checkout", svn("checkout", "-q", url+"/trunk", "work"), "")
	require.NoError(s.t, os.WriteFile(s.local("work/plain"), []byte("changed\n"), 0o644))
	s.must("commit", svn("commit", "-q", "-m", "second", "work"), "")
	s.must("checkout again", svn("checkout", "-q", url+"/trunk@1", "copy"), "")
	s.must("update", svn("update", "-q", "copy"), "")
	s.equal("updated", "changed\n", contents(s.local("copy/plain")))
	s.equal("noise", fileSum(s.local("cargo/sub dir/deeper/noise")), fileSum(s.local("copy/sub dir/deeper/noise")))
	s.must("author", svn("propget", "--revprop", "-r", "1", "svn:log", url), "")
	r := runCommand(s.t, svn("checkout", "svn+ssh://host/nosuchrepo", "x"), nil)
	s.note("what is not there: status %d, %t", r.status, strings.Contains(r.stderr, "No repository found"))
}

func gitAnnex(s *site) {
	s.must("git-annex-shell", s.ssh("git-annex-shell -c true 2>&1 | grep -v usage | head -n 1; command -v git-annex-shell >/dev/null || git-annex-shell"), "")
	there := s.account().home + "/" + s.far + "/repo"
	s.must("init there", s.ssh(fmt.Sprintf("git init -q %s && cd %s && git config user.name a && git config user.email a@x && git annex init --quiet there && echo made", there, there)), "")
	s.load("work", files)
	annex := func(what string, args ...string) {
		cmd := s.wrapped("git", args...)
		cmd.Dir = s.local("work")
		cmd.Env = append(cmd.Env, s.git(s.config).Env...)
		cmd.Env = append(cmd.Env, "PATH="+s.local("bin")+":"+os.Getenv("PATH"), "GIT_ANNEX_USE_GIT_SSH=1")
		s.quietly(what, cmd)
	}
	noise := fileSum(s.local("work/sub dir/deeper/noise"))
	annex("init", "init", "-q", ".")
	annex("annex init", "annex", "init", "--quiet", "here")
	annex("remote", "remote", "add", "there", "ssh://host"+there)
	annex("add", "annex", "add", "--quiet", "sub dir")
	annex("commit", "commit", "-q", "-m", "first")
	annex("push", "push", "-q", "there", "HEAD:refs/heads/synced/main", "git-annex:synced/git-annex")
	annex("move", "annex", "move", "--quiet", "--to", "there", "sub dir")
	_, err := os.Stat(s.local("work/sub dir/deeper/noise"))
	s.equal("moved", "true", fmt.Sprint(os.IsNotExist(err)))
	annex("get", "annex", "get", "--quiet", "sub dir")
	s.equal("back", noise, fileSum(s.local("work/sub dir/deeper/noise")))
	annex("fsck", "annex", "fsck", "--quiet", "--from", "there", "--fast")
}

const jschJar = "/usr/share/java/jsch.jar"

// jschClass compiles the client's program, once for all places.
var jschClass = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(world.scratch, "jsch")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	source := filepath.Join(dir, "Jsch.java")
	if err := os.WriteFile(source, []byte(jschScript), 0o644); err != nil {
		return "", err
	}
	return dir, command("javac", "-J-XX:-UsePerfData", "-d", dir, "-cp", jschJar, source)
})

func jsch(s *site) {
	s.load("cargo", files)
	class, err := jschClass()
	require.NoError(s.t, err)
	f := openFront(s.t, s.place, func(config string) string { return "HostKey " + sshDir + "/host_key.ecdsa\n" + config })
	s.front = f
	// This version knows neither ed25519 nor today's signatures by RSA, nor OpenSSH's
	// own format.
	key := s.newKeyOf("", "-t", "ecdsa", "-m", "PEM")
	scriptBy(s, key, "java", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", jschJar+":"+class, "Jsch")
}

// libssh is what qemu has for images behind ssh.
func libssh(s *site) {
	raw := s.local("disk")
	noise := strings.Repeat("jail\n", 1<<18)
	require.NoError(s.t, os.WriteFile(raw, []byte(noise[:1<<20]), 0o644))
	image := func(name string) string {
		options, err := json.Marshal(map[string]any{
			"driver": "raw", "file": map[string]any{
				"driver": "ssh", "path": s.account().home + "/" + s.far + "/" + name, "user": s.user(),
				"server":         map[string]string{"host": "127.0.0.1", "port": fmt.Sprint(s.port)},
				"host-key-check": map[string]string{"mode": "none"},
			},
		})
		require.NoError(s.t, err)
		return "json:" + string(options)
	}
	// The key comes from an agent, the only way qemu knows.
	qemu := func(what string, command ...string) {
		s.quietly(what, s.client("ssh-agent", append([]string{"sh", "-c", `ssh-add -q "$0" && exec "$@"`, keyFile}, command...)...))
	}
	s.must("a place", s.ssh("truncate -s 1M "+s.far+"/disk || dd if=/dev/zero bs=1048576 count=1 of="+s.far+"/disk 2>/dev/null"), "")
	qemu("write", "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, image("disk"))
	s.equal("there", fileSum(raw), fileSum(s.remote("disk")))
	qemu("part", "qemu-io", "-c", "write -P 0x5a 4096 65536", "-c", "flush", image("disk"))
	qemu("back", "qemu-img", "convert", image("disk"), "-O", "raw", "back")
	s.equal("back", fileSum(s.remote("disk")), fileSum(s.local("back")))
	s.equal("the part", strings.Repeat("Z", 65536), contents(s.remote("disk"))[4096:4096+65536])
}
