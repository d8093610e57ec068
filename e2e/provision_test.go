package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// bareHost is a host on which jail is installed, with an sshd that has its block, and no
// jail yet. It returns the port of sshd.
func bareHost(t *testing.T) (port int, sshd *exec.Cmd) {
	t.Helper()
	alone(t)
	s, err := serve(registry{text: "version = 1\n"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	require.True(t, poll(deadline, func() bool { _, err := os.Stat("/run/jail/ctl/.serve"); return err == nil }))
	changesAccounts(t)
	require.NoError(t, command("groupadd", "jailed"))
	t.Cleanup(func() { require.NoError(t, command("groupdel", "jailed")) })

	port = freePort(t)
	const config = "/etc/ssh/sshd_config"
	was, err := os.ReadFile(config)
	require.NoError(t, err)
	block, err := os.ReadFile(shippedBlock)
	require.NoError(t, err)
	text := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\n%s%s", port, sshdCommon, block)
	require.NoError(t, os.WriteFile(config, []byte(text), 0o644))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(config, was, 0o644)) })
	return port, startSSHD(t, port)
}

// changesAccounts is for a test that has useradd(8) or the like change the account files:
// they rename a new file into the place of another, and with the old one its mounts go, in
// whatever mount namespace. Those of the oracle are made anew.
func changesAccounts(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, command("nsenter", "--mount="+filepath.Join(world.scratch, oracleNS), "sh", "-ec", bindAccounts(world.scratch)))
	})
}

func startSSHD(t *testing.T, port int) *exec.Cmd {
	t.Helper()
	log, err := os.OpenFile(world.log("sshd.listening.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer log.Close()
	sshd := exec.Command("/usr/sbin/sshd", "-D", "-e")
	sshd.Stdout, sshd.Stderr = log, log
	startListening(t, sshd, port)
	return sshd
}

// jailVerb runs a verb of jail's.
func jailVerb(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	return runCommand(t, exec.Command(initPath, args...), strings.NewReader(stdin))
}

// state is all that a login may leave behind, by name.
func state(t *testing.T) map[string]string {
	t.Helper()
	s := make(map[string]string)
	for _, root := range []string{"", debianRoot} {
		for _, f := range []string{"passwd", "shadow", "group", "gshadow", "subuid", "subgid"} {
			if text, err := os.ReadFile(filepath.Join(root, "etc", f)); err == nil {
				s[filepath.Join(root, "etc", f)] = string(text)
			}
		}
	}
	for _, dir := range []string{"/etc/jail", "/etc/ssh", "/var/lib/jail", debianRoot + "/home", debianRoot + "/etc", "/run/jail"} {
		require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			// Of serve: they have the time in them, or stay by design, some as long as a jail runs.
			if queue, _ := filepath.Match(ownQueues, p); queue {
				return nil
			}
			if err == nil && !strings.HasPrefix(p, "/run/jail/lock/") && !strings.HasPrefix(p, "/run/jail/registry") &&
				p != "/var/lib/jail/registry" && p != "/var/lib/jail/.unfinished.lock" {
				s[p] += " is there"
			}
			return nil
		}))
	}
	delete(s, "/etc/jail/jail.d")
	half, err := filepath.Glob("/etc/.*.jail-new") // of the account files; the rest of /etc is others'
	require.NoError(t, err)
	for _, p := range half {
		s[p] = "is there"
	}
	return s
}

// keepAccounts has the accounts of the host and of debian's root directory be as they were, for
// the tests that follow: a hundred are quicker forgotten than removed.
func keepAccounts(t *testing.T) {
	t.Helper()
	for _, root := range []string{"/", debianRoot} {
		for _, f := range []string{"passwd", "shadow", "group", "gshadow", "subuid", "subgid"} {
			path := filepath.Join(root, "etc", f)
			if text, err := os.ReadFile(path); err == nil {
				t.Cleanup(func() { require.NoError(t, os.WriteFile(path, text, 0o600)) }) // it keeps its mode
			}
		}
	}
	home := filepath.Join(debianRoot, "home")
	before, err := os.ReadDir(home)
	require.NoError(t, err)
	t.Cleanup(func() {
		after, err := os.ReadDir(home)
		require.NoError(t, err)
		for _, d := range after {
			if !slices.ContainsFunc(before, func(b os.DirEntry) bool { return b.Name() == d.Name() }) {
				require.NoError(t, os.RemoveAll(filepath.Join(home, d.Name())))
			}
		}
	})
}

// sameState compares, and says what is different only.
func sameState(t *testing.T, before map[string]string, after string) {
	t.Helper()
	now := state(t)
	for p := range now {
		if before[p] != now[p] {
			t.Errorf("%s: %s is %q, was %q", after, p, now[p], before[p])
		}
	}
	for p := range before {
		if _, there := now[p]; !there {
			t.Errorf("%s: %s is gone", after, p)
		}
	}
}

// TestAddAndRemove: a login is made by one command, is somebody who can log in, and is gone by
// another, without a trace.
func TestAddAndRemove(t *testing.T) {
	port, _ := bareHost(t)
	before := state(t)
	as := func(login, command string) result {
		return runCommand(t, exec.Command("ssh", "-F", "none", "-i", keyFile, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-p", strconv.Itoa(port), login+"@127.0.0.1", command), nil)
	}

	dry := jailVerb(t, "", "add", "newbie", "--jail", "deb", "--rootfs", debianRoot, "--dry-run")
	require.Zero(t, dry.status, "%+v", dry)
	assert.Contains(t, dry.stdout, "account newbie of the host: uid ")
	sameState(t, before, "a dry run makes nothing")

	r := jailVerb(t, "", "add", "newbie", "--jail", "deb", "--rootfs", debianRoot, "--key", keyFile+".pub")
	require.Zero(t, r.status, "%+v\n%s", r, world.tail("sshd.listening.log", 0))
	assert.Contains(t, r.stdout, "newbie: logged in to jail deb over the loopback address")
	assert.Contains(t, r.stdout, "log in: ssh newbie@")
	assert.Equal(t, result{stdout: "newbie\n/home/newbie\n"}, as("newbie", "id -un; pwd"))
	assert.Equal(t, result{stdout: "700 newbie\n600 newbie\n"}, as("newbie", "stat -c '%a %U' ~/.ssh ~/.ssh/authorized_keys"))
	ls := jailVerb(t, "", "key", "newbie", "ls")
	assert.Equal(t, 1, strings.Count(ls.stdout, "\n"), "the key of the proof is gone: %+v", ls)

	// A doctor finds him well, and leaves nothing.
	made := state(t)
	records := contents(debianRoot + "/var/log/wtmp")
	before2 := world.tail("serve.log", 0)
	r = jailVerb(t, "", "doctor", "--json", "newbie")
	require.Zero(t, r.status, "%+v\n%s", r, world.tail("sshd.listening.log", 0))
	assert.Equal(t, map[string]string{
		"jail runs": "ok", "login": "ok", "shell": "ok", "exit status": "ok", "signal": "ok", "data both ways": "ok", "terminal, resize": "ok",
		"sftp": "ok", "scp": "ok", "agent": "off", "forward to the host": "off",
	}, outcomes(t, r), "%+v", r)
	sameState(t, made, "doctor leaves nothing")
	assert.Equal(t, records, contents(debianRoot+"/var/log/wtmp"), "nobody has logged in")
	assert.Contains(t, strings.TrimPrefix(world.tail("serve.log", 0), before2), "login newbie started: jail doctor's, pts/")
	left, err := filepath.Glob("/run/.jail-doctor-*")
	require.NoError(t, err)
	assert.Empty(t, left)
	require.Zero(t, jailVerb(t, "", "disable", "newbie").status)
	r = jailVerb(t, "", "doctor", "newbie")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stdout, "newbie: 1 of 2 things do not work; jail check newbie")
	assert.Contains(t, r.stdout, "login   ")
	// What he reads has an id, and that leads to the reason.
	refused := as("newbie", "id")
	assert.Equal(t, 125, refused.status)
	_, id, _ := strings.Cut(strings.TrimSpace(refused.stderr), "(id ")
	r = jailVerb(t, "", "why", id)
	eventually(t, "the refusal is recorded", func() bool { r = jailVerb(t, "", "why", id); return r.status == 0 })
	assert.Contains(t, r.stdout, ": newbie, jail deb\n")
	assert.Contains(t, r.stdout, "what to do: jail enable")
	assert.Contains(t, r.stdout, "jail check newbie, now:\n")
	assert.NotContains(t, r.stdout, "nothing keeps it out")
	require.Zero(t, jailVerb(t, "", "enable", "newbie").status)
	assert.Contains(t, jailVerb(t, "", "why", id).stdout, "nothing keeps it out")
	lost := runCommand(t, exec.Command(enterPath, "--runtime-dir", "/nonexistent"), nil)
	assert.Contains(t, lost.stderr, "(id no-jail)\n")
	assert.Equal(t, 125, lost.status)
	r = jailVerb(t, "", "doctor", "nobody-such")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, `no login "nobody-such"`)

	// A second one of the same jail, whose password is the host's.
	r = jailVerb(t, "a secret of hers\n", "add", "second", "--jail", "deb", "--password")
	require.Zero(t, r.status, "%+v", r)
	shadow, err := os.ReadFile("/etc/shadow")
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^second:\$`, string(shadow))
	assert.NotZero(t, as("second", "id").status)
	public, err := os.ReadFile(keyFile + ".pub")
	require.NoError(t, err)
	require.Zero(t, jailVerb(t, string(public), "key", "second", "add", "-").status)
	assert.Equal(t, result{stdout: "second\n"}, as("second", "id -un"))
	require.Zero(t, jailVerb(t, "", "key", "second", "rm", strings.Fields(ls.stdout)[1]).status)
	assert.NotZero(t, as("second", "id").status)

	// The registry is changed by an editor, and only to what can be used.
	edit := func(script, answer string) result {
		t.Setenv("EDITOR", "sed -i "+script)
		return jailVerb(t, answer, "edit", "deb")
	}
	const dropin = "/etc/jail/jail.d/deb.toml"
	text := contents(dropin)
	r = edit("s/^rootfs.*/rootfs=7/", "n\n")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "jail-init: "+dropin+":5: jail.deb.rootfs: ")
	assert.Equal(t, text, contents(dropin))
	r = edit("s/^rootfs.*/&\\nhostname=\"edited\"/", "")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, dropin+" is in force")
	assert.Contains(t, contents(dropin), "hostname=\"edited\"")

	// A class of them.
	var list, names strings.Builder
	for i := range 12 {
		fmt.Fprintf(&list, "pupil%d,%d,%s\n", i, 50000+i, strings.TrimSpace(string(public)))
		fmt.Fprintf(&names, "pupil%d ", i)
	}
	r = jailVerb(t, "# a class\n"+list.String(), "add", "--csv", "-", "--jail", "deb")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, "12 logins are made")
	assert.Contains(t, r.stdout, "11 more are made and not tried")
	assert.Equal(t, result{stdout: "pupil11\n50011\n"}, as("pupil11", "id -un; id -u"))
	r = jailVerb(t, "other\nnewbie\n", "add", "--csv", "-", "--jail", "deb")
	assert.Contains(t, r.stderr, "newbie: is in the registry already, in jail deb; jail key newbie add FILE ")
	assert.NotContains(t, contents("/etc/passwd"), "other:", "all of a list or none")
	for name := range strings.FieldsSeq(names.String()) {
		require.Zero(t, jailVerb(t, "", "rm", name, "--purge").status)
	}
	assert.Contains(t, contents(dropin), "hostname=\"edited\"", "what was changed by hand stays")

	r = jailVerb(t, "", "rm", "newbie", "--purge")
	require.Zero(t, r.status, "%+v", r)
	assert.NotZero(t, as("newbie", "id").status)
	r = jailVerb(t, "", "rm", "second", "--purge")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, debianRoot+" stays")
	sameState(t, before, "")

	// A new jail of a template.
	require.NoError(t, os.WriteFile(registryPath, []byte("version = 1\n[template.t]\nhostname = \"of-t\"\n"), 0o644))
	r = jailVerb(t, "", "add", "newbie", "--rootfs", debianRoot, "--template", "t", "--key", keyFile+".pub")
	require.Zero(t, r.status, "%+v", r)
	assert.Equal(t, result{stdout: "of-t\n"}, as("newbie", "hostname"))
	require.Zero(t, jailVerb(t, "", "rm", "newbie", "--purge").status)
	sameState(t, before, "of a template")
}

// outcomes are those of the steps of one examination, by step.
func outcomes(t *testing.T, r result) map[string]string {
	t.Helper()
	var exams []struct {
		Tried []struct{ Step, Outcome string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &exams), r.stdout)
	require.Len(t, exams, 1)
	all := map[string]string{}
	for _, x := range exams[0].Tried {
		all[x.Step] = x.Outcome
	}
	return all
}

// TestAddLeavesNothing: whatever is wrong, and whoever ends it wherever, a login is there whole or not at all.
func TestAddLeavesNothing(t *testing.T) {
	_, sshd := bareHost(t)
	before := state(t)
	// Somebody of the tree's own, who has a uid that is nobody's on the host.
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"an account of the host": {[]string{"alice", "--rootfs", debianRoot}, "the host has an account of that name"},
		"no name":                {[]string{"Alice", "--rootfs", debianRoot}, "is no login name"},
		"a uid of the system's":  {[]string{"newbie", "--rootfs", debianRoot, "--uid", "33"}, "must be 1000 or more"},
		"a uid of somebody's":    {[]string{"newbie", "--rootfs", debianRoot, "--uid", strconv.Itoa(alice.id)}, "an account of the host has it"},
		"no jail":                {[]string{"newbie"}, "there is no jail newbie"},
		"no root directory":      {[]string{"newbie", "--rootfs", "/srv/nowhere"}, "/srv/nowhere"},
		"not a root directory":   {[]string{"newbie", "--rootfs", "/srv/people"}, "has no account files"},
		"no template":            {[]string{"newbie", "--rootfs", debianRoot, "--template", "none"}, "template"},
		"no person":              {[]string{"daemon", "--rootfs", debianRoot}, "a system account's name on the host"},
		"an image's name":        {[]string{"newbie", "--rootfs", "debian"}, "jail image copy"},
		"a wrong option":         {[]string{"newbie", "--rotfs", debianRoot}, "add: there is no option --rotfs; jail-init help add shows what it takes"},
		"a user of the system's": {[]string{"www-data2", "--jail", "deb", "--rootfs", "/"}, "rootfs"},
	} {
		r := jailVerb(t, "", append([]string{"add"}, c.args...)...)
		assert.NotZero(t, r.status, name)
		assert.Contains(t, r.stderr, c.says, name)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "one line: %s", r.stderr)
		sameState(t, before, name)
	}

	r := jailVerb(t, "", "help", "add")
	assert.True(t, r.status == 0 && strings.HasPrefix(r.stdout, "    add LOGIN ") && strings.Count(r.stdout, "\n") < 10, "%+v", r)
	assert.Equal(t, r, jailVerb(t, "", "add", "--help"))

	// Somebody ends it: when the account is there, the registry, the home.
	for name, there := range map[string]string{
		"account": "/etc/passwd", "registry": "/etc/jail/jail.d/newbie.toml", "home": debianRoot + "/home/newbie",
	} {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
			cmd := exec.Command(initPath, "add", "newbie", "--rootfs", debianRoot, "--key", keyFile+".pub")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			require.NoError(t, cmd.Start())
			require.True(t, poll(deadline, func() bool {
				text, err := os.ReadFile(there)
				return err == nil && strings.Contains(string(text), "newbie") || err != nil && !os.IsNotExist(err)
			}), "%s: %s", name, stderr.String())
			cmd.Process.Signal(sig)
			cmd.Wait()
			if sig == syscall.SIGKILL {
				// useradd(8), in a group of its own, may still be at it, with the files locked.
				require.True(t, poll(deadline, func() bool { _, err := os.Stat("/etc/passwd.lock"); return os.IsNotExist(err) }))
				r := jailVerb(t, "", "rm", "nobody-at-all")
				assert.Contains(t, r.stderr, "jail add newbie, has not ended", "%s: %+v", name, r)
			} else {
				assert.Contains(t, stderr.String(), "interrupted; nothing of it remains", name)
			}
			eventually(t, "a jail that was started is gone", func() bool { return len(jailPIDs("newbie")) == 0 })
			sameState(t, before, fmt.Sprintf("%s, signal %v", name, sig))
		}
	}

	// No sshd.
	require.NoError(t, sshd.Process.Kill())
	sshd.Wait()
	r = jailVerb(t, "", "add", "newbie", "--rootfs", debianRoot)
	assert.Contains(t, r.stderr, "Connection refused): sshd does not run, systemctl start ssh; nothing")
	assert.Contains(t, r.stderr, "nothing of it remains")
	sameState(t, before, "no sshd")
}

// TestAddKilledAtARename: a run that is killed when a file is written and does not have its name yet
// leaves it; the next one removes it, whatever else it is there for.
func TestAddKilledAtARename(t *testing.T) {
	bareHost(t)
	public := strings.TrimSpace(contents(keyFile + ".pub"))
	one := []string{"add", "newbie", "--rootfs", debianRoot, "--key", keyFile + ".pub"}
	list := []string{"add", "--csv", "-", "--jail", "newbie", "--rootfs", debianRoot}
	before := state(t)
	for _, c := range []struct {
		dir   string // where the file is
		args  []string
		stdin string
		left  []string // what is left, one of which each time
	}{
		{"/var/lib/jail", one, "", []string{"unfinished"}},
		{"/etc/jail/jail.d", one, "", []string{"newbie.toml"}},
		{debianRoot + "/etc", one, "", []string{"group", "shadow", "passwd"}},
		{"/etc", list, "newbie,," + public + "\nsecond\n", []string{"group", "gshadow", "shadow", "passwd"}},
	} {
		var left []string
		for nth := 1; ; nth++ {
			what := fmt.Sprintf("%s, rename %d", c.dir, nth)
			// -P is the directory of the call: no other thread has renamed there.
			cmd := exec.Command("strace", append([]string{"-f", "-qq", "-o", "/dev/null", "-P", c.dir, "-e", "trace=renameat,renameat2",
				"-e", fmt.Sprintf("inject=renameat,renameat2:signal=SIGKILL:when=%d", nth), initPath}, c.args...)...)
			cmd.Stdin = strings.NewReader(c.stdin)
			out, err := cmd.CombinedOutput() // strace ends by the signal that its program ends by
			if err == nil {
				require.Zero(t, jailVerb(t, "", "rm", "newbie", "--purge").status, what)
				if c.stdin != "" {
					require.Zero(t, jailVerb(t, "", "rm", "second", "--purge").status, what)
				}
				sameState(t, before, what)
				break
			}
			half, err := filepath.Glob(c.dir + "/.*.jail-new")
			require.NoError(t, err)
			require.Len(t, half, 1, "%s: %v, %s", what, err, out)
			left = append(left, strings.TrimSuffix(filepath.Base(half[0])[1:], ".jail-new"))
			r := jailVerb(t, "", "rm", "nobody-at-all")
			assert.Contains(t, r.stderr, "nobody-at-all", what)
			eventually(t, "a jail that was started is gone", func() bool { return len(jailPIDs("newbie")) == 0 })
			sameState(t, before, what)
		}
		for _, name := range c.left {
			assert.Contains(t, left, name, c.dir)
		}
	}
}

// fullDisk puts a file system into the place of a directory that has the same in it and room for some pages
// more. free makes room, back gives the directory back.
func fullDisk(t *testing.T, place string, pages int) (free, back func()) {
	t.Helper()
	require.NoError(t, os.MkdirAll(place, 0o755))
	const aside = "/mnt"
	require.NoError(t, unix.Mount("tmpfs", aside, "tmpfs", 0, "mode=755,size=64m"))
	require.NoError(t, command("cp", "-aT", place, aside))
	require.NoError(t, unix.Mount(aside, place, "", unix.MS_BIND, ""))
	require.NoError(t, unix.Unmount(aside, 0))
	full := place + "/.full"
	f, err := os.Create(full)
	require.NoError(t, err)
	n := int64(0)
	for page := make([]byte, 4096); ; n += 4096 {
		if _, err = f.Write(page); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, unix.ENOSPC)
	require.NoError(t, f.Truncate(n-int64(pages)*4096))
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Truncate(full, 0)) }, func() { require.NoError(t, unix.Unmount(place, unix.MNT_DETACH)) }
}

// TestAddOnAFullDisk: a disk that is full, at whichever step, leaves nothing of a login, or nothing when it
// has room again.
func TestAddOnAFullDisk(t *testing.T) {
	bareHost(t)
	public := strings.TrimSpace(contents(keyFile + ".pub"))
	full := 0
	for _, place := range []string{"/etc", "/etc/jail/jail.d", "/var/lib/jail", debianRoot + "/etc", debianRoot + "/home"} {
		for _, form := range []string{"one", "list"} {
			for pages := range 8 {
				// What is mounted below a root directory no jail sees: a step that comes so far is none.
				if most, ok := map[string]int{debianRoot + "/etc": 0, debianRoot + "/home": 4}[place]; ok && pages > most {
					break
				}
				what := fmt.Sprintf("%s, %s, %d pages left", place, form, pages)
				free, back := fullDisk(t, place, pages)
				before := state(t)
				var r result
				if form == "one" {
					r = jailVerb(t, "", "add", "newbie", "--rootfs", debianRoot, "--key", keyFile+".pub")
				} else {
					r = jailVerb(t, "newbie,,"+public+"\nsecond\n", "add", "--csv", "-", "--jail", "newbie", "--rootfs", debianRoot)
				}
				if r.status == 0 {
					free()
					require.Zero(t, jailVerb(t, "", "rm", "newbie", "--purge").status, what)
					if form == "list" {
						require.Zero(t, jailVerb(t, "", "rm", "second", "--purge").status, what)
					}
					back()
					break
				}
				full++
				assert.NotContains(t, r.stderr, "panic", what)
				if strings.Contains(r.stderr, "the next run tries again") {
					free()
					r = jailVerb(t, "", "rm", "nobody-at-all")
					assert.Contains(t, r.stderr, "has not ended; what it was at is taken away", "%s: %+v", what, r)
				} else if place != "/etc" { // useradd(8) says in words of its own that it could not write
					assert.Regexp(t, "(?i)no space left on device", r.stderr, what)
				}
				eventually(t, "a jail that was started is gone", func() bool { return len(jailPIDs("newbie")) == 0 })
				sameState(t, before, what)
				back()
			}
		}
	}
	assert.Greater(t, full, 15, "it was full at many steps")
}

// TestSetup: a host with nothing but sshd is ready for logins after one command, and as it
// was after another.
func TestSetup(t *testing.T) {
	alone(t)
	changesAccounts(t)
	const config, dropin, pidFile = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/50-jail.conf", "/run/sshd.listening.pid"
	was, err := os.ReadFile(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.WriteFile(config, was, 0o644)) })
	write := func(text string) { require.NoError(t, os.WriteFile(config, []byte(text), 0o644)) }
	require.NoError(t, os.RemoveAll(registryPath))
	bare := state(t)

	// No sshd, or one whose configuration has a fault.
	write("Port nonsense\n")
	r := jailVerb(t, "", "setup")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "sshd's configuration has a fault already")
	assert.Equal(t, "Port nonsense\n", contents(config))

	// As distributions have it: a directory of drop-ins.
	write("Include /etc/ssh/sshd_config.d/*.conf\n" + sshdCommon)
	r = jailVerb(t, "", "setup", "--dry-run")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, "+++ "+dropin+"\n    +# ")
	assert.NoFileExists(t, dropin)
	require.NoError(t, os.Remove("/run/sshd")) // sshd is started for each connection, and none has been made
	r = jailVerb(t, "", "setup")
	require.Zero(t, r.status, "%+v", r)
	assert.DirExists(t, "/run/sshd")
	assert.Equal(t, contents(shippedBlock), contents(dropin))
	r = jailVerb(t, "", "setup")
	assert.NotContains(t, r.stdout, "done:")
	require.Zero(t, jailVerb(t, "", "setup", "--undo").status)
	assert.NoFileExists(t, dropin)
	sameState(t, bare, "")

	// Groups of [[match]] get there by the same block, also when they come later.
	require.NoError(t, command("groupadd", "-g", "74500", "class"))
	require.NoError(t, command("useradd", "-K", "SUB_UID_COUNT=0", "-M", "-G", "class", "-d", emptyHome, "-s", enterPath, "anna"))
	match := func(groups ...string) {
		text := "version = 1\n[template.t]\nrootfs = \"" + jailsDir + "/{user}\"\n"
		for _, g := range groups {
			text += "[[match]]\ngroup = \"" + g + "\"\ntemplate = \"t\"\n"
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(registryPath), 0o755))
		require.NoError(t, os.WriteFile(registryPath, []byte(text), 0o644))
	}
	forcedOf := func(user string) string {
		out, err := exec.Command("/usr/sbin/sshd", "-T", "-C", "user="+user+",host=localhost,addr=127.0.0.1").Output()
		require.NoError(t, err)
		return string(out)
	}
	require.Zero(t, jailVerb(t, "", "setup").status)
	assert.NotContains(t, forcedOf("anna"), "jail-enter")
	match("class")
	require.NoError(t, os.Mkdir(jailsDir+"/anna", 0o755))
	t.Cleanup(func() { os.Remove(jailsDir + "/anna") })
	r = jailVerb(t, "", "check", "anna")
	assert.Contains(t, r.stdout+r.stderr, "jail setup")
	require.NoError(t, os.WriteFile(dropin, []byte(strings.Replace(contents(dropin), "AllowTcpForwarding no", "AllowTcpForwarding yes", 1)), 0o644))
	r = jailVerb(t, "", "setup", "--dry-run")
	assert.Contains(t, r.stdout, "to do:  sshd's block, in "+dropin+", for group class as well\n    --- "+dropin+"\n    -Match Group jailed\n    +Match Group jailed,class\n")
	assert.NotContains(t, contents(dropin), "class")
	require.Zero(t, jailVerb(t, "", "setup").status)
	assert.Contains(t, forcedOf("anna"), "forcecommand exec /usr/bin/jail-enter --forced\n")
	assert.Contains(t, contents(dropin), "AllowTcpForwarding yes", "what has been changed by hand stays")
	// It is for more of them, never for fewer: nobody gets onto the host by that.
	match()
	r = jailVerb(t, "", "setup")
	assert.NotContains(t, r.stdout, "done:")
	assert.Contains(t, contents(dropin), "Match Group jailed,class\n")
	// Nobody is kept out of the host by a group that a system account is in.
	require.NoError(t, command("groupadd", "-g", "74501", "mixed"))
	require.NoError(t, command("usermod", "-aG", "mixed", "daemon"))
	match("class", "mixed")
	r = jailVerb(t, "", "setup")
	assert.Contains(t, r.stdout, "is not for group mixed of the registry's [[match]]: daemon would not get onto the host any more")
	assert.NotContains(t, contents(dropin), "mixed")
	require.NoError(t, command("gpasswd", "-d", "daemon", "mixed"))
	match("mixed")
	require.Zero(t, jailVerb(t, "", "setup").status)
	assert.Contains(t, contents(dropin), "Match Group jailed,class,mixed\n")
	// A registry that cannot be read says nothing of groups.
	require.NoError(t, os.WriteFile(registryPath, []byte("version = 7\n"), 0o644))
	assert.Contains(t, jailVerb(t, "", "setup").stderr, "it is not known which groups")
	match("class")
	r = jailVerb(t, "", "rm", "anna")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, `match group = "class" gives login anna its jail, so it stays: gpasswd -d anna class `)
	r = jailVerb(t, "", "setup", "--undo")
	assert.Contains(t, r.stderr, "1 login is left (anna)")
	assert.Contains(t, r.stderr, "by taking it out of the registry")
	// Nobody gets onto the host because the registry cannot be read, or has him out of service.
	for text, says := range map[string]string{
		"version = [\n": "it is not known who would get onto the host",
		"version = 1\n[jail.x]\nrootfs = \"/nowhere\"\nnonsense = 1\nusers = [\"anna\"]\n": "1 login is left (anna)",
	} {
		require.NoError(t, os.WriteFile(registryPath, []byte(text), 0o644))
		r = jailVerb(t, "", "setup", "--undo")
		assert.Equal(t, 1, r.status)
		assert.Contains(t, r.stderr, says)
		assert.Contains(t, forcedOf("anna"), "forcecommand exec /usr/bin/jail-enter --forced\n")
	}
	require.NoError(t, os.WriteFile(registryPath, []byte("version = 1\n"), 0o644))
	dropped := filepath.Join(filepath.Dir(registryPath), "jail.d/half.toml")
	require.NoError(t, os.WriteFile(dropped, []byte("[[[\n"), 0o644))
	r = jailVerb(t, "", "setup", "--undo")
	assert.True(t, r.status == 1 && strings.Contains(r.stderr, dropped) && strings.Contains(r.stderr, "it is not known who"), "%+v", r)
	require.NoError(t, os.Remove(dropped))
	require.NoError(t, command("userdel", "anna"))
	require.NoError(t, os.WriteFile(dropin, []byte(strings.Replace(contents(dropin), "AllowTcpForwarding yes", "AllowTcpForwarding no", 1)), 0o644))
	require.NoError(t, os.WriteFile(registryPath, []byte("version = 1\n"), 0o644))
	require.Zero(t, jailVerb(t, "", "setup", "--undo").status)
	assert.NoFileExists(t, dropin)
	assert.Equal(t, result{stdout: "nothing of jail setup is there\n"}, jailVerb(t, "", "setup", "--undo"))
	for _, g := range []string{"class", "mixed"} {
		require.NoError(t, command("groupdel", g))
	}
	sameState(t, bare, "groups of the block")

	// One file, and an sshd that runs and is told.
	port := freePort(t)
	text := fmt.Sprintf("Port %d\nListenAddress 127.0.0.1\nPidFile %s\n%s", port, pidFile, sshdCommon)
	write(text)
	startSSHD(t, port)
	t.Cleanup(func() { os.Remove(pidFile) })
	r = jailVerb(t, "", "setup")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, "done:   sshd's block, in "+config)
	s := &server{}
	require.NoError(t, s.start())
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	eventually(t, "serve takes orders", func() bool { _, err := os.Stat("/run/jail/ctl/.serve"); return err == nil })
	r = jailVerb(t, "", "add", "newbie", "--rootfs", debianRoot)
	require.Zero(t, r.status, "%+v", r)
	r = jailVerb(t, "", "setup", "--undo")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "1 login is left (newbie)")
	assert.NotEqual(t, text, contents(config))
	require.Zero(t, jailVerb(t, "", "rm", "newbie", "--purge").status)
	r = jailVerb(t, "", "setup", "--undo")
	require.Zero(t, r.status, "%+v", r)
	assert.Equal(t, text, contents(config))
	assert.NotContains(t, contents("/etc/group"), "jailed")
}

// TestDisable: whoever is kept out is told why, by ssh and by su; who is in stays.
func TestDisable(t *testing.T) {
	own(t, standardRegistry())
	inside := open(t, forced, ask{as: centos, cmd: "echo in; read x; echo out"})
	inside.expect("in\n")
	r := jailVerb(t, "", "disable", "centos", "--message", "new disks, until noon")
	require.Zero(t, r.status, "%+v", r)
	for _, d := range []door{forced, login} {
		r = run(t, d, ask{as: centos, cmd: "exit 0"})
		assert.Equal(t, 125, r.status)
		assert.Contains(t, r.stderr, "this login is disabled: new disks, until noon")
	}
	assert.Equal(t, result{}, run(t, forced, ask{as: work, cmd: "exit 0"}), "nobody else is")
	assert.Regexp(t, `(?m)^centos .*disabled: new disks, until noon$`, jailVerb(t, "", "ps").stdout)
	assert.Equal(t, result{stdout: "root\n"}, jailVerb(t, "", "exec", "centos", "id", "-un"), "the administrator gets in while it runs")
	inside.send("\n")
	inside.expect("out\n")
	r = jailVerb(t, "", "stop", "centos")
	assert.Empty(t, r.stdout, "no login starts it")
	assert.Contains(t, jailVerb(t, "", "exec", "centos", "true").stderr, "jail exec --force centos starts it and lets nobody else in")
	assert.Empty(t, jailPIDs("centos"))
	// The administrator gets in whatever it takes, and nobody else by that: not while it runs so, nor
	// when it has ended.
	r = jailVerb(t, "", "exec", "--force", "centos", "id", "-un")
	assert.Equal(t, result{stdout: "root\n"}, r, "%s", world.tail("serve.log", 0))
	pids := jailPIDs("centos")
	require.Len(t, pids, 1)
	eventually(t, "the login it was started with is dropped", func() bool { return !strings.Contains(contents("/proc/net/unix"), ".nobody-centos") })
	for _, d := range []door{forced, login} {
		r = run(t, d, ask{as: centos, cmd: "exit 0"})
		assert.Equal(t, 125, r.status)
		assert.Contains(t, r.stderr, "this login is disabled: new disks, until noon")
	}
	assert.Equal(t, result{stdout: "work\n"}, jailVerb(t, "", "exec", "--force", "-u", strconv.Itoa(centos.id), "centos", "id", "-un"))
	assert.Equal(t, pids, jailPIDs("centos"), "the same one")
	assert.Contains(t, jailVerb(t, "", "exec", "--force", "nobody", "true").stderr, "jail nobody: there is none of that name")
	require.Zero(t, jailVerb(t, "", "enable", "centos").status)
	assert.Equal(t, result{}, run(t, forced, ask{as: centos, cmd: "exit 0"}), "a jail that was started so lets them in again")
	assert.Equal(t, pids, jailPIDs("centos"))
	require.Zero(t, jailVerb(t, "", "disable", "centos").status)
	require.Zero(t, jailVerb(t, "", "stop", "centos").status)
	// Why it does not start is said.
	require.NoError(t, os.Rename(busyboxRoot, busyboxRoot+".away"))
	r = jailVerb(t, "", "exec", "--force", "centos", "true")
	require.NoError(t, os.Rename(busyboxRoot+".away", busyboxRoot))
	assert.Equal(t, 1, r.status)
	assert.Regexp(t, "jail centos does not start: .*"+busyboxRoot, r.stderr)
	eventually(t, "it starts after a pause", func() bool { return jailVerb(t, "", "exec", "--force", "centos", "true").status == 0 })
	require.Zero(t, jailVerb(t, "", "enable", "centos").status)
	assert.Equal(t, result{}, run(t, forced, ask{as: centos, cmd: "exit 0"}))
	assert.Contains(t, jailVerb(t, "", "stop", "centos").stdout, "the next login starts it again")
	assert.Contains(t, jailVerb(t, "", "enable", "centos").stderr, "centos is not disabled")
	assert.Contains(t, jailVerb(t, "", "disable", "nobody").stderr, "neither a jail nor a login")
	assert.NoDirExists(t, "/etc/jail/disabled")
}

// TestAddMany: a list, and a group of accounts that are there, get jails by one command, all of
// them or none, and by one reload.
func TestAddMany(t *testing.T) {
	const many = 150
	port, _ := bareHost(t)
	keepAccounts(t)
	as := func(login, command string) result {
		return runCommand(t, exec.Command("ssh", "-F", "none", "-i", keyFile, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-p", strconv.Itoa(port), login+"@127.0.0.1", command), nil)
	}
	before := state(t)
	public := strings.TrimSpace(contents(keyFile + ".pub"))
	var list strings.Builder
	for i := range many {
		fmt.Fprintf(&list, "pupil%d,,%s\n", i, public)
	}
	reloads := func() int { return strings.Count(contents(world.log("serve.log")), ": reloaded: ") }
	add := []string{"add", "--csv", "-", "--jail", "class", "--rootfs", debianRoot}
	r := jailVerb(t, list.String(), append(add, "--dry-run")...)
	require.Zero(t, r.status, "%+v", r)
	assert.Equal(t, many, strings.Count(r.stdout, "\naccount pupil")+1)
	sameState(t, before, "a dry run makes nothing")

	// Somebody else changes the files, as useradd(8) does.
	fd, err := unix.Open("/etc/.pwd.lock", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	require.NoError(t, err)
	require.NoError(t, unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	r = jailVerb(t, list.String(), add...)
	require.NoError(t, unix.Close(fd))
	assert.Contains(t, r.stderr, "somebody else changes them")
	sameState(t, before, "the account files are locked")

	was := reloads()
	r = jailVerb(t, list.String(), add...)
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, fmt.Sprintf("%d logins are made\n", many))
	assert.Equal(t, was+1, reloads(), "one reload for all")
	assert.Equal(t, result{stdout: "pupil149\n600\n"}, as("pupil149", "id -un; stat -c %a ~/.ssh/authorized_keys"))
	assert.Regexp(t, `(?m)^jailed:x:\d+:pupil0,pupil1,`, contents("/etc/group"))
	assert.Regexp(t, `(?m)^pupil149:\*:\d+:0:99999:7:::$`, contents("/etc/shadow"))
	for _, args := range [][]string{{"pwck", "-qr"}, {"grpck", "-qr"}} {
		said, _ := exec.Command(args[0], args[1:]...).CombinedOutput()
		assert.NotContains(t, string(said), "pupil", args[0])
	}
	for _, f := range []string{"passwd", "group", "shadow", "gshadow"} {
		st, err := os.Stat("/etc/" + f)
		require.NoError(t, err)
		want := map[string]os.FileMode{"passwd": 0o644, "group": 0o644, "shadow": 0o640, "gshadow": 0o640}[f]
		assert.Equal(t, want, st.Mode().Perm(), f)
	}
	// One that is interrupted is gone as a whole; so is one that the registry has something against.
	made := state(t)
	cmd := exec.Command(initPath, "add", "--csv", "-", "--jail", "class")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(list.String(), "pupil", "other"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	require.True(t, poll(deadline, func() bool { _, err := os.Stat(debianRoot + "/home/other9"); return err == nil }), stderr.String())
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	cmd.Wait()
	assert.Contains(t, stderr.String(), "interrupted; nothing of it remains")
	sameState(t, made, "a list is interrupted")
	for i := range many {
		if i < 2 {
			require.Zero(t, jailVerb(t, "", "rm", fmt.Sprintf("pupil%d", i), "--purge").status)
		}
	}
	assert.NotContains(t, contents("/etc/passwd"), "pupil1:")

	// Accounts that are there, with shells and homes of their own.
	require.NoError(t, command("groupadd", "-g", "74500", "class"))
	for _, a := range [][]string{{"-G", "class", "anna"}, {"-g", "class", "ben"}, {"-G", "class,sudo", "boss"}} {
		require.NoError(t, command("useradd", append([]string{"-K", "SUB_UID_COUNT=0", "-m", "-p", "*", "-s", "/bin/bash", "-d", "/srv/people/" + a[2]}, a...)...))
	}
	made = state(t)
	group := []string{"add", "--from-group", "class", "--jail", "class"}
	r = jailVerb(t, "", group...)
	assert.Contains(t, r.stderr, "sudo")
	assert.Contains(t, r.stderr, "nothing of it remains")
	sameState(t, made, "one of the group is nearly root")
	require.NoError(t, command("userdel", "-r", "boss"))
	made = state(t)
	r = jailVerb(t, "", append(group, "--dry-run")...)
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, `account anna of the host is there: uid `)
	assert.Contains(t, r.stdout, `, shell /usr/bin/jail-enter instead of "/bin/bash", group jailed`)
	sameState(t, made, "a dry run makes nothing")
	r = jailVerb(t, "", group...)
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, "2 logins are made\n")
	assert.Regexp(t, `(?m)^anna:.*:/srv/people/anna:/usr/bin/jail-enter$`, contents("/etc/passwd"))
	require.Zero(t, jailVerb(t, public, "key", "anna", "add", "-").status)
	assert.Equal(t, result{stdout: "anna\n/home/anna\n"}, as("anna", "id -un; pwd"))
	r = jailVerb(t, "", group...)
	require.Zero(t, r.status, "%+v", r)
	assert.Equal(t, "2 of them have a jail already, and stay as they are: anna (jail class), ben (jail class)\n0 logins are made\n", r.stdout)
	r = jailVerb(t, "", "rm", "anna", "--purge")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, "account anna of the host stays: it has a home of its own, /srv/people/anna")
	assert.Contains(t, contents("/etc/passwd"), "\nanna:")
	assert.NotZero(t, as("anna", "id").status, "nobody gets in by it")
	assert.Equal(t, 125, runCommand(t, exec.Command("su", "anna", "-c", "id"), nil).status, "nobody gets in by it")
	require.Zero(t, jailVerb(t, "", "rm", "ben", "--purge").status)
	assert.Contains(t, jailVerb(t, "", "rm", "ben").stderr, "is in no jail, and has a home of its own")
	for _, name := range []string{"anna", "ben"} {
		require.NoError(t, command("userdel", "-r", name))
	}
	require.NoError(t, command("groupdel", "class"))
	for args, says := range map[string]string{"sudo": "nearly root", "no-such": "is no group of the host", "a,b": "is no name of a group"} {
		assert.Contains(t, jailVerb(t, "", "add", "--from-group", args, "--jail", "class").stderr, says)
	}

	// A directory's.
	extrausers(t, func(int) string { return emptyHome })(many)
	was = reloads()
	r = jailVerb(t, "", "add", "--from-group", "students", "--jail", "class")
	require.Zero(t, r.status, "%+v", r)
	assert.Contains(t, r.stdout, fmt.Sprintf("%d logins are made\n", many))
	assert.Equal(t, was+1, reloads(), "one reload for all")
	require.Zero(t, jailVerb(t, public, "key", "st149", "add", "-").status)
	assert.Equal(t, result{stdout: "st149\n/home/st149\n"}, as("st149", "id -un; pwd"))
	assert.NotRegexp(t, `(?m)^st\d+ = \{ uid = 7`, contents("/etc/jail/jail.d/class.toml"), "a uid that no jail has room for")
	for _, name := range []string{"st149", "st0"} {
		require.Zero(t, jailVerb(t, "", "rm", name, "--purge").status)
	}
	// What is left of both lists goes with the jail.
	require.NoError(t, command(initPath, "stop", "--all"))
	require.NoError(t, os.Remove("/etc/jail/jail.d/class.toml"))
	require.NoError(t, command(initPath, "reload"))
	for i := 2; i < many; i++ {
		require.Zero(t, jailVerb(t, "", "rm", fmt.Sprintf("pupil%d", i)).status)
	}
}

// TestSet: limits of a jail that runs are changed by a verb, which says what it cannot do; where
// there is no unified hierarchy, that is all it can say (make try-vm has the rest).
func TestSet(t *testing.T) {
	own(t, standardRegistry())
	assert.Contains(t, jailVerb(t, "", "set", "centos", "memory=64M").stderr, "jail centos: it does not run; what it starts with is in the registry")
	require.Equal(t, result{}, run(t, forced, ask{as: centos, cmd: "exit 0"}))
	assert.Contains(t, jailVerb(t, "", "set", "nobody", "pids=40").stderr, "jail nobody: there is none of that name")
	for _, bad := range []string{"colour=red", "memory=red", "pids=-1", "pids", "cpu="} {
		r := jailVerb(t, "", "set", "centos", bad)
		assert.NotZero(t, r.status, "%s: %+v", bad, r)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "%s: %+v", bad, r)
	}
	r := jailVerb(t, "", "set", "centos", "pids=40")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		assert.Equal(t, result{}, r)
		return
	}
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "jail centos: limits: they cannot be kept, since this machine has no unified cgroup hierarchy")
}
