package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/stretchr/testify/require"
)

func transferRows() []clientRow {
	return []clientRow{
		{name: "rsync", tests: "rsync", inside: "rsync", scenario: rsyncTree,
			does: "a tree both ways with its links and odd names, --delete, a second run that has nothing to do, a missing source"},
		{name: "git", tests: "git", inside: "git", scenario: gitRepository,
			does: "push, clone, fetch by protocol version 2, a refused push, a repository that is not there"},
		{name: "git, git-shell", tests: "git", inside: "git", scenario: gitShell,
			does: "push and clone with a key that allows git-shell only, and what it refuses"},
		{name: "tar", tests: "tar", scenario: tarPipes,
			does: "a tree with its links and odd names through a pipe each way"},
		{name: "borg", tests: "borgbackup", inside: "borg", scenario: borgRepository,
			does: "a backup and its return with a key restricted to `borg serve --restrict-to-path`, and what the key refuses"},
		{name: "sshfs", tests: "sshfs", scenario: mountedFiles,
			does: "a tree copied in and out through the mount, renames, links, a file written in the middle"},
	}
}

func rsyncTree(s *site) {
	sent := s.load("cargo", files|links|wild)
	rsync := func(args ...string) []string { return append([]string{"-aH", "-e", "ssh -F " + s.config}, args...) }
	s.must("there", s.client("rsync", rsync("cargo/", "host:"+s.far+"/cargo/")...), "")
	s.arrived(sent, "cargo", true)
	s.must("again", s.client("rsync", rsync("--itemize-changes", "cargo/", "host:"+s.far+"/cargo/")...), "")
	s.must("back", s.client("rsync", rsync("host:"+s.far+"/cargo/", "back/")...), "")
	s.returned(sent, "back", true)

	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, "back/extra"), []byte("x"), 0o644))
	require.NoError(s.t, os.Remove(filepath.Join(s.dir, "back/plain")))
	require.NoError(s.t, os.RemoveAll(filepath.Join(s.dir, "back/sub dir/deeper")))
	s.must("--delete there", s.client("rsync", rsync("--delete", "--itemize-changes", "back/", "host:"+s.far+"/cargo/")...), "")
	s.arrived(s.local("back"), "cargo", true)
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, "back/more"), []byte("x"), 0o644))
	s.must("--delete back", s.client("rsync", rsync("--delete", "host:"+s.far+"/cargo/", "back/")...), "")
	s.equal("after --delete", manifest(s.remote("cargo"), true), manifest(s.local("back"), true))
	r := runCommand(s.t, s.client("rsync", rsync("host:nosuchdir/", "x/")...), nil)
	s.note("what is not there: status %d, %t", r.status, strings.Contains(r.stderr, "No such file or directory"))
}

// git is a git command of a user without any configuration but ssh's.
func (s *site) git(config string, args ...string) *exec.Cmd {
	c := s.client("git", args...)
	c.Env = append(c.Env, "GIT_SSH_COMMAND=ssh -F "+config, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@x", "GIT_AUTHOR_DATE=1000000000 +0000",
		"GIT_COMMITTER_NAME=c", "GIT_COMMITTER_EMAIL=c@x", "GIT_COMMITTER_DATE=1000000000 +0000",
		"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=init.defaultBranch", "GIT_CONFIG_VALUE_0=main",
		"GIT_CONFIG_KEY_1=core.quotePath", "GIT_CONFIG_VALUE_1=true")
	return c
}

// commits makes a repository with a tree in it.
func (s *site) commits(name string) {
	s.t.Helper()
	s.load(name, files|links|wild)
	for _, args := range [][]string{{"init", "-q", "."}, {"add", "-A"}, {"commit", "-q", "-m", "first"}} {
		cmd := s.git(s.config, args...)
		cmd.Dir = s.local(name)
		out, err := cmd.CombinedOutput()
		require.NoError(s.t, err, "%s", out)
	}
}

// head is the commit a repository's branch is at, which names all it has.
func (s *site) head(dir string) string {
	cmd := s.git(s.config, "-c", "safe.directory=*", "-C", dir, "rev-parse", "main", "main^{tree}")
	out, err := cmd.CombinedOutput()
	return fmt.Sprintf("%s%v", out, err)
}

func gitRepository(s *site) {
	s.must("init", s.ssh(fmt.Sprintf("git init -q --bare -b main '%s/it'\\''s a repo.git'", s.far)), "")
	s.commits("work")
	url := "host:" + s.far + "/it's a repo.git"
	s.must("push", s.git(s.config, "-C", "work", "push", "-q", url, "main"), "")
	s.equal("pushed", s.head(s.local("work")), s.head(s.remote("it's a repo.git")))
	s.must("clone", s.git(s.config, "clone", "-q", fmt.Sprintf("ssh://host%s/%s/it's a repo.git", s.account().home, s.far), "copy"), "")
	s.equal("cloned", s.head(s.local("work")), s.head(s.local("copy")))
	s.must("fsck", s.git(s.config, "-C", "copy", "fsck", "--full", "--no-progress"), "")

	// The version asked for reaches the other end as GIT_PROTOCOL.
	for _, version := range []string{"2", "0"} {
		has := version == "2"
		trace := s.git(s.config, "-c", "protocol.version="+version, "ls-remote", url)
		trace.Env = append(trace.Env, "GIT_TRACE_PACKET=1")
		r := runCommand(s.t, trace, nil)
		s.equal("protocol version "+version, fmt.Sprint(has, 0), fmt.Sprint(strings.Contains(r.stderr, "ls-remote< version 2"), r.status))
	}
	other := s.git(s.config, "-C", "copy", "commit", "-q", "--allow-empty", "-m", "other")
	s.must("commit", other, "")
	s.must("push back", s.git(s.config, "-C", "copy", "push", "-q"), "")
	again := s.git(s.config, "-C", "work", "commit", "-q", "--amend", "-m", "amended")
	s.must("amend", again, "")
	s.run("a push that would lose a commit", s.git(s.config, "-C", "work", "push", "-q", url, "main"), "")
	s.run("what is not there", s.git(s.config, "clone", "-q", "host:nosuchrepo", "x"), "")
}

func gitShell(s *site) {
	s.must("init", s.ssh("git init -q --bare -b main "+s.far+"/r.git"), "")
	s.commits("work")
	config := s.writeConfig("restricted", s.newKey(`command="git-shell -c \"$SSH_ORIGINAL_COMMAND\"",restrict`))
	s.run("push", s.git(config, "-C", "work", "push", "-q", "host:"+s.far+"/r.git", "main"), "")
	s.run("clone", s.git(config, "clone", "-q", "host:"+s.far+"/r.git", "copy"), "")
	s.note("cloned: %s", s.head(s.local("copy")))
	s.run("another command", s.client("ssh", "-F", config, "host", "id"), "")
}

func tarPipes(s *site) {
	sent := s.load("cargo", files|links|wild)
	pack := s.client("tar", "-C", sent, "--sort=name", "-cf", "-", ".")
	packed, err := pack.Output()
	require.NoError(s.t, err)
	s.must("there", s.ssh(fmt.Sprintf("mkdir %s/cargo && tar -C %s/cargo -xpf - && echo unpacked", s.far, s.far)), string(packed))
	s.arrived(sent, "cargo", true)
	back := s.must("back", s.client("sh", "-c", fmt.Sprintf("mkdir back && ssh -F %s host 'tar -C %s/cargo -cf - .' | tar -C back -xpf -", s.config, s.far)), "")
	s.equal("errors", "", back.stderr)
	s.returned(sent, "back", true)
}

func borgRepository(s *site) {
	s.load("cargo", files|links|wild)
	repo := s.account().home + "/" + s.far + "/repo"
	config := s.writeConfig("restricted", s.newKey(fmt.Sprintf(`command="borg serve --restrict-to-path %s",restrict`, repo)))
	borg := func(args ...string) *exec.Cmd {
		c := s.client("borg", args...)
		c.Env = append(c.Env, "BORG_RSH=ssh -F "+config, "BORG_BASE_DIR="+s.dir, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes")
		return c
	}
	url := "ssh://host" + repo
	// Without borg there, its client shows the shell's words or its own, as its
	// select finds them (remote.py:RemoteRepository.call_many ends at the end of
	// standard output, whatever waits on standard error).
	s.must("the key's command", s.client("ssh", "-F", config, "host"), "")
	s.must("init", borg("init", "--encryption=none", url), "")
	s.must("create", borg("create", "--timestamp=2001-09-09T01:46:40", url+"::first", "cargo"), "")
	require.NoError(s.t, os.Rename(s.local("cargo"), s.local("sent")))
	s.must("extract", borg("extract", url+"::first"), "")
	s.returned(s.local("sent"), "cargo", true)
	refused := runCommand(s.t, borg("init", "--encryption=none", "ssh://host"+s.account().home+"/"+s.far+"/elsewhere"), nil)
	s.note("another path: status %d, %t", refused.status, strings.Contains(refused.stderr, "Repository path not allowed"))
	_, err := os.Stat(s.remote("elsewhere"))
	s.equal("another path", "true", fmt.Sprint(os.IsNotExist(err)))
	s.equal("no lock is left", "", contents(s.remote("repo/lock.roster")))
}

func mountedFiles(s *site) {
	sent := s.load("cargo", files|wild)
	point := s.local("mnt")
	require.NoError(s.t, os.Mkdir(point, 0o700))
	mount := s.client("sshfs", "-F", s.config, "-f", "host:"+s.far, point, "-o", "idmap=user,dir_cache=no")
	fs := s.start(mount)
	mounted := func() bool {
		var here, above syscall.Stat_t
		return syscall.Stat(point, &here) == nil && syscall.Stat(s.dir, &above) == nil && here.Dev != above.Dev
	}
	s.await("the mount", func() bool { return mounted() || fs.gone() })
	if !mounted() {
		s.note("no mount: %s%s", fs.stdout.String(), fs.stderr.String())
		s.stop()
	}
	unmounted := false
	unmount := func() {
		if !unmounted {
			unmounted = true
			require.NoError(s.t, command("fusermount3", "-u", point))
			s.await("sshfs ends", fs.gone)
		}
	}
	defer unmount()
	s.must("there", s.client("cp", "-r", "--preserve=mode,timestamps", "cargo", "mnt/cargo"), "")
	s.arrived(sent, "cargo", true)
	s.must("back", s.client("cp", "-r", "--preserve=mode,timestamps", "mnt/cargo", "back"), "")
	s.returned(sent, "back", true)
	s.must("rename", s.client("mv", "mnt/cargo/plain", "mnt/cargo/new\nname"), "")
	s.must("hard link", s.client("ln", "mnt/cargo/new\nname", "mnt/cargo/second"), "")
	s.must("link", s.client("ln", "-s", "second", "mnt/cargo/third"), "")
	s.must("chmod", s.client("chmod", "0611", "mnt/cargo/second"), "")
	s.must("truncate", s.client("truncate", "-s", "300000", "mnt/cargo/sub dir/deeper/noise"), "")
	s.must("write", s.client("dd", "status=none", "of=mnt/cargo/sub dir/deeper/noise", "bs=1", "seek=100000", "conv=notrunc"), "in the middle")
	s.must("remove", s.client("rm", "-r", "mnt/cargo/shut"), "")
	unmount()
	s.note("there at the end: %s", manifest(s.remote("cargo"), false))
}
