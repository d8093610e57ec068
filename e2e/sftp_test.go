package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Subsystem lines of the host's sshd_config.
const (
	external = "/usr/lib/openssh/sftp-server"
	internal = "internal-sftp"
)

// subsystem returns options of ssh, sftp and scp for a connection through the
// door to an sshd whose sftp subsystem is this.
func subsystem(t *testing.T, d door, command string, extra ...string) []string {
	t.Helper()
	text := contents(sshdConfig(d))
	changed := strings.Replace(text, "Subsystem sftp "+external+"\n", "Subsystem sftp "+command+"\n"+strings.Join(extra, "\n")+"\n", 1)
	require.Contains(t, changed, "Subsystem sftp "+command+"\n")
	if len(extra) > 0 {
		// In a Match block sshd takes "none" for a file's name, and then no
		// certificate of an authority of the host's is good for anything.
		changed = strings.Replace(changed, "AuthorizedPrincipalsFile none\n", "", 1)
	}
	path := filepath.Join(t.TempDir(), "sshd_config")
	require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
	argv := sshd(d, world.scratch)
	for i, a := range argv {
		if a == sshdConfig(d) {
			argv[i] = path
		}
	}
	return []string{"-F", sshDir + "/config", "-o", "ProxyCommand " + strings.Join(argv, " ")}
}

// sftp runs a batch of commands of sftp(1), in a directory of its own with the
// files a batch uses.
func sftp(t *testing.T, options []string, d door, as account, batch string) result {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "small"), []byte("small\n"), 0o644))
	old := unix.NsecToTimespec(1_100_000_000e9)
	require.NoError(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "small"), []unix.Timespec{old, old}, 0))
	f, err := os.Create(filepath.Join(dir, "large"))
	require.NoError(t, err)
	_, err = io.Copy(f, noise(3<<20))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	cmd := exec.Command("sftp", append(append([]string(nil), options...), "-b", "-", "-o", "User="+d.user(as), string(d))...)
	cmd.Dir = dir
	r := runCommand(t, cmd, strings.NewReader(batch))
	// What came back is part of the result.
	back, _ := filepath.Glob(filepath.Join(dir, "back*"))
	for _, name := range back {
		r.stdout += fmt.Sprintf("%s %.16s\n", filepath.Base(name), sum(bytes.NewReader([]byte(contents(name)))))
	}
	return r
}

// sftpBatch does what people do with sftp, mistakes among it.
const sftpBatch = `pwd
mkdir up
-mkdir up
cd up
pwd
put -p small
put -p small "two words"
put -p small *
put -p small 'q"uote'
put -p small ü
put large
-reput large
-put small missing/x
-put small /etc/small
get small back1
get large back2
-reget large back2
get "two words" back3
-get missing
-get /etc/shadow
chmod 640 small
-chmod 777 /etc/passwd
-chown 0 small
ln -s small link
ln small hard
-ln -s small link
-ln missing hard2
ls -1a
ls -l small hard link
-ls missing
ls -l /etc/passwd
rename small renamed
-rename missing x
rename renamed hard
copy hard copied
get copied back4
-copy missing x
-rmdir ../up
rm *
-rm missing
-cd /root
-ls
-cd missing
cd /home/work
rmdir up
-rmdir up
ls up*
`

var listedTime = regexp.MustCompile(`[A-Z][a-z]{2} [ \d]\d (\d\d:\d\d| \d{4})`)

func TestSFTPLikePlainSSHD(t *testing.T) {
	reg := standardRegistry()
	batch := func(t *testing.T, d door, command string) result {
		t.Helper()
		require.NoError(t, os.RemoveAll(inHome(t, d, "up"))) // a batch that was refused something ends early
		r := sftp(t, subsystem(t, d, command), d, work, sftpBatch)
		r.stdout = listedTime.ReplaceAllString(r.stdout, "TIME")
		return r
	}
	for _, mode := range []string{"auto", "builtin"} {
		t.Run(mode, func(t *testing.T) {
			own(t, registry{text: strings.Replace(reg.text, "version = 1\n", "version = 1\n[defaults]\nsftp = \""+mode+"\"\n", 1), jails: reg.jails, users: reg.users})
			for _, command := range []string{external, internal, external + " -u 027 -P rmdir", internal + " -R -d /tmp"} {
				var want result
				var oracle sync.WaitGroup
				oracle.Go(func() { want = batch(t, plain, command) })
				defer oracle.Wait()
				doors := jailDoors
				if strings.HasPrefix(command, internal) {
					// Without a ForceCommand sshd's own server serves the host's files,
					// which jail-init check calls an error.
					doors = []door{forced}
				}
				got := make([]result, len(doors))
				for i, d := range doors {
					got[i] = batch(t, d, command)
				}
				oracle.Wait()
				for i, d := range doors {
					assertSame(t, fmt.Sprintf("%q through %s", command, d), want, got[i])
				}
				if command == external {
					require.Contains(t, want.stdout, "back4", "the batch got as far as that: %s", want.stderr)
				}
			}
		})
	}
}

// servedBy returns the program that serves an sftp session, as a file.
func servedBy(t *testing.T, options []string, d door, as account) os.FileInfo {
	t.Helper()
	before := make(map[int]bool)
	for pid := range processes() {
		before[pid] = true
	}
	cmd := exec.Command("ssh", append(append([]string(nil), options...), "-l", d.user(as), "-s", "--", string(d), "sftp")...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer in.Close()
	_, err = in.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
	require.NoError(t, err)
	var head [9]byte
	_, err = io.ReadFull(out, head[:])
	require.NoError(t, err, "no server: %s", &stderr)
	require.Equal(t, uint32(3), binary.BigEndian.Uint32(head[5:]))
	for pid := range processes() {
		comm := strings.TrimSpace(contents(fmt.Sprintf("/proc/%d/comm", pid)))
		if !before[pid] && comm == "sftp-server" {
			info, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
			require.NoError(t, err)
			return info
		}
	}
	t.Fatalf("no sftp-server among the new processes")
	return nil
}

func TestWhichServerServes(t *testing.T) {
	builtin, err := os.Stat(sftpPath)
	require.NoError(t, err)
	theirs, err := os.Stat(debianRoot + external)
	require.NoError(t, err)
	reg := standardRegistry()
	for mode, want := range map[string]os.FileInfo{"auto": theirs, "builtin": builtin, "rootfs": theirs} {
		t.Run(mode, func(t *testing.T) {
			own(t, registry{text: strings.Replace(reg.text, "version = 1\n", "version = 1\n[defaults]\nsftp = \""+mode+"\"\n", 1), jails: reg.jails, users: reg.users})
			for _, command := range []string{
				external, internal, "/usr/libexec/openssh/sftp-server", "sftp-server -l INFO", "jail:sftp", "/usr/lib/jail/sftp-server",
			} {
				assert.True(t, os.SameFile(want, servedBy(t, subsystem(t, forced, command), forced, work)), "%s", command)
				if command != internal {
					assert.True(t, os.SameFile(want, servedBy(t, subsystem(t, login, command), login, work)), "%s as the login shell's", command)
				}
			}
			options := subsystem(t, forced, external)
			if mode != "rootfs" {
				assert.True(t, os.SameFile(builtin, servedBy(t, options, forced, centos)), "a tree without a server")
				return
			}
			for _, command := range []string{external, internal} {
				r := runCommand(t, exec.Command("ssh", append(subsystem(t, forced, command), "-l", "centos", "-s", "forced", "sftp")...), nil)
				assert.Equal(t, result{status: 127}, r, "sshd drops a subsystem's standard error")
				r = run(t, forced, ask{as: centos, cmd: command})
				assert.Equal(t, 127, r.status)
				assert.Empty(t, r.stdout)
				assert.Regexp(t, `^jail-enter: .*there is no sftp-server in this jail.*\n$`, r.stderr)
			}
		})
	}
	t.Run("off", func(t *testing.T) {
		own(t, registry{text: strings.Replace(reg.text, "version = 1\n", "version = 1\n[defaults]\nsftp = \"off\"\n", 1), jails: reg.jails, users: reg.users})
		for _, as := range []account{work, centos} {
			for _, command := range []string{external, internal} {
				r := runCommand(t, exec.Command("ssh", append(subsystem(t, forced, command), "-l", as.login, "-s", "forced", "sftp")...), nil)
				assert.Equal(t, result{status: 126}, r)
				r = run(t, forced, ask{as: as, cmd: command})
				assert.Equal(t, 126, r.status)
				assert.Empty(t, r.stdout)
				assert.Regexp(t, `^jail-enter: .*sftp is switched off for this jail.*\n$`, r.stderr)
			}
			assert.Equal(t, result{stdout: "no\n"}, run(t, forced, ask{as: as, cmd: "test -e /dev/jail/sftp-server || echo no"}))
		}
	})
}

// A tree with nothing but busybox in it is as good as any for sftp and scp.
func TestSFTPAndSCPWithoutAServer(t *testing.T) {
	standard(t)
	for _, d := range jailDoors {
		for _, command := range []string{external, internal} {
			if d == login && command == internal {
				continue // the host's files, see above
			}
			t.Run(string(d)+" "+command, func(t *testing.T) {
				options := subsystem(t, d, command)
				r := sftp(t, options, d, centos, "pwd\nput large\nget large back\nls -l large\ndf\nls /\nrm large\n")
				require.Zero(t, r.status, "%s%s", r.stdout, r.stderr)
				assert.Contains(t, r.stdout, "Remote working directory: /home/work")
				assert.Contains(t, r.stdout, fmt.Sprintf("back %.16s\n", sum(noise(3<<20))))
				assert.Contains(t, r.stdout, "/bin", "the jail's root")
				assert.NotContains(t, r.stdout, "/srv", "not the host's")

				local := filepath.Join(t.TempDir(), "local")
				f, err := os.Create(local)
				require.NoError(t, err)
				_, err = io.Copy(f, noise(5<<20))
				require.NoError(t, err)
				require.NoError(t, f.Close())
				at := string(d) + ":"
				scp := func(args ...string) {
					t.Helper()
					all := append(append([]string(nil), options...), "-q", "-o", "User="+centos.login)
					r := runCommand(t, exec.Command("scp", append(all, args...)...), nil)
					require.Equal(t, result{}, r, "scp %q", args)
				}
				scp("-p", local, at+"uploaded file")
				inside := filepath.Join(busyboxRoot, centos.home, "uploaded file")
				assert.Equal(t, sum(noise(5<<20)), sum(strings.NewReader(contents(inside))))
				assert.Equal(t, centos.id, uidOfFile(t, inside))
				scp(at+"uploaded file", local+"2")
				assert.Equal(t, sum(noise(5<<20)), sum(strings.NewReader(contents(local+"2"))))
				// A tree of directories, and back.
				tree := filepath.Join(t.TempDir(), "tree")
				require.NoError(t, os.MkdirAll(filepath.Join(tree, "a/b"), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(tree, "a/b/\xff odd"), []byte("x"), 0o600))
				scp("-r", tree, at)
				scp("-r", at+"tree", tree+"-back")
				assert.Equal(t, "x", contents(tree+"-back/a/b/\xff odd"))
				assert.Equal(t, result{}, run(t, d, ask{as: centos, cmd: "rm -r tree 'uploaded file'"}))
			})
		}
	}
}

func uidOfFile(t *testing.T, path string) int {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return int(st.Uid)
}

// The old protocol of scp needs scp inside, which is a matter of the tree.
func TestOldSCP(t *testing.T) {
	standard(t)
	_, err := os.Stat(filepath.Join(debianRoot, "usr/bin/scp"))
	require.NoError(t, err)
	for _, d := range allDoors {
		local := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(local, []byte("old\n"), 0o644))
		options := append(subsystem(t, d, external), "-O", "-q", "-o", "User="+d.user(work))
		require.Equal(t, result{}, runCommand(t, exec.Command("scp", append(options, local, string(d)+":old-scp")...), nil), "%s", d)
		assert.Equal(t, "old\n", contents(inHome(t, d, "old-scp")))
		require.Equal(t, result{}, runCommand(t, exec.Command("scp", append(options, string(d)+":old-scp", local+"2")...), nil), "%s", d)
		assert.Equal(t, "old\n", contents(local+"2"))
	}
}

// 20,000 names, and a file beyond 4 GiB with a hole in it.
func TestSFTPLargeThings(t *testing.T) {
	standard(t)
	many := filepath.Join(busyboxRoot, centos.home, "many")
	require.NoError(t, os.Mkdir(many, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(many)) })
	for i := range 20000 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/name %05d", many, i), nil, 0o644))
	}
	sparse := filepath.Join(many, "sparse")
	require.NoError(t, os.WriteFile(sparse, nil, 0o644))
	require.NoError(t, os.Truncate(sparse, 5<<30))
	require.NoError(t, command("chown", "-R", "61000:61000", many))
	r := sftp(t, subsystem(t, forced, external), forced, centos, "ls -1 many\nls -l many/sparse\nchmod 600 many/sparse\n")
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, 20000, strings.Count(r.stdout, "many/name "))
	assert.Contains(t, r.stdout, " 5368709120 ")
}

// A key of the jail's that may do sftp and nothing else.
func TestKeyForSFTPOnly(t *testing.T) {
	standard(t)
	const readOnly = "get /etc/passwd back\n-put small refused\n-rm .bashrc\nls -1a .bashrc refused\n"
	for _, forcedTo := range []string{"internal-sftp -R", external + " -R"} {
		t.Run(forcedTo, func(t *testing.T) {
			client := withKey(t, `restrict,command="`+forcedTo+`"`)
			for _, d := range []door{plain, forced} {
				args := client(d).Args[1:]
				for i := range args {
					if args[i] == "-l" {
						args[i], args[i+1] = "-o", "User="+args[i+1]
					}
				}
				r := sftp(t, args, d, work, readOnly)
				assert.Contains(t, r.stdout, fmt.Sprintf("back %.16s", sum(strings.NewReader(contents(d.root()+"/etc/passwd")))), "%s: %s", d, r.stderr)
				assert.Contains(t, r.stderr, "Permission denied", "%s", d)
				assert.Contains(t, r.stdout, ".bashrc", "%s", d)
				_, err := os.Stat(inHome(t, d, "refused"))
				assert.ErrorIs(t, err, os.ErrNotExist, "%s", d)
			}
			if forcedTo != "internal-sftp -R" {
				return
			}
			for _, cmd := range []string{"", "id", "internal-sftp; id", "scp -t .", "/usr/lib/openssh/sftp-server;id"} {
				args := []string{"--", string(plain), cmd}
				want := runCommand(t, client(plain, args...), nil)
				require.Equal(t, result{stdout: "This service allows sftp connections only.\n", status: 1}, want)
				args[1] = string(forced)
				got := runCommand(t, client(forced, args...), nil)
				assert.Equal(t, 125, got.status, "%q", cmd)
				assert.Empty(t, got.stdout)
				assert.Regexp(t, `^jail-enter: .*This service allows sftp connections only\..*\n$`, got.stderr)
			}
		})
	}
}

// A certificate with a force-command, of an authority sshd_config names. What
// sshd forgets of it under ForceCommand is looked up again, as with a key.
func TestCertificateForSFTPOnly(t *testing.T) {
	reg := standardRegistry()
	reg.text += "[defaults]\nkeys = \"anywhere\"\n"
	own(t, reg)
	dir := t.TempDir()
	for _, name := range []string{"ca", "key"} {
		require.NoError(t, command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)))
	}
	ca := filepath.Join(sshDir, "ca.pub")
	require.NoError(t, os.WriteFile(ca, []byte(contents(filepath.Join(dir, "ca.pub"))), 0o644))
	t.Cleanup(func() { require.NoError(t, os.Remove(ca)) })
	for _, d := range []door{plain, forced} {
		require.NoError(t, command("ssh-keygen", "-q", "-s", filepath.Join(dir, "ca"), "-I", "test", "-n", d.user(work), "-O", "force-command=internal-sftp -R", filepath.Join(dir, "key.pub")))
		options := subsystem(t, d, external, "TrustedUserCAKeys "+ca)
		options[1] = sshDir + "/config.keyless"
		options = append(options, "-i", filepath.Join(dir, "key"), "-o", "User="+d.user(work))
		r := sftp(t, options, d, work, "get /etc/passwd back\n-put small refused\n")
		assert.Contains(t, r.stdout, "back ", "%s: %s", d, r.stderr)
		assert.Contains(t, r.stderr, "Permission denied", "%s", d)
		r = runCommand(t, exec.Command("ssh", append(options, string(d), "id")...), nil)
		want := map[door]int{plain: 1, forced: 125}[d]
		assert.Equal(t, want, r.status, "%s: %s%s", d, r.stdout, r.stderr)
		assert.NotContains(t, r.stdout, "uid=", "%s", d)
		assert.Contains(t, r.stdout+r.stderr, "This service allows sftp connections only.", "%s", d)
	}
}

// A user whose shell refuses everything is refused the external subsystem, which
// the shell runs, and gets sshd's own, for which it is the usual set-up.
func TestSFTPWithoutAUsableShell(t *testing.T) {
	standard(t)
	for _, command := range []string{external, internal} {
		want := sftp(t, subsystem(t, plain, command), plain, noLogin, "pwd\n")
		got := sftp(t, subsystem(t, forced, command), forced, noLogin, "pwd\n")
		assertSame(t, command, want, got)
		assert.Equal(t, command == internal, want.status == 0, "%s", want.stderr)
	}
}

// What only looks like a request for sftp is a command.
func TestCommandsThatNameAServer(t *testing.T) {
	standard(t)
	for _, cmd := range []string{
		external + "; echo x", external + " -Q requests | head -1", external + " -Q 'requests'", "echo " + external, external + " $(echo -h)", external + " -Q requests",
		external + " -h", external + " nonsense </dev/null", "exec " + external + " -Q requests",
	} {
		same(t, ask{cmd: cmd})
	}
}

// What shows of the host's program inside can be run and nothing else.
func TestTheServerInsideIsNobodysToChange(t *testing.T) {
	standard(t)
	before, err := os.Stat(sftpPath)
	require.NoError(t, err)
	text := sum(strings.NewReader(contents(sftpPath)))
	for _, jail := range []string{"debian", "centos"} {
		for _, cmd := range []string{
			"echo x >/dev/jail/sftp-server", "chmod 4755 /dev/jail/sftp-server", "chown 61000 /dev/jail/sftp-server", "rm -f /dev/jail/sftp-server",
			"mv /dev/jail/sftp-server /dev/jail/x", "ln /dev/jail/sftp-server /dev/jail/x", "touch /dev/jail/sftp-server", ": >>/dev/jail/sftp-server",
			"truncate -s 0 /dev/jail/sftp-server", "umount /dev/jail/sftp-server", "mount -o remount,rw,suid /dev/jail/sftp-server",
		} {
			r := runCommand(t, exec.Command(initPath, "exec", jail, "/bin/sh", "-c", cmd), nil)
			assert.NotZero(t, r.status, "%s: %s", jail, cmd)
		}
		r := runCommand(t, exec.Command(initPath, "exec", jail, "/bin/sh", "-c", "grep ' /dev/jail/sftp-server ' /proc/self/mountinfo; stat -c '%A %a' /dev/jail; ls /dev/jail"), nil)
		assert.Regexp(t, `^\d+ \d+ \S+ \S+ /dev/jail/sftp-server ro,nosuid,nodev\S* .*\ndrwxr-xr-x 755\nagent\nauth\n(hosts\n)?sftp-server\n$`, r.stdout, "%s", r.stderr)
	}
	after, err := os.Stat(sftpPath)
	require.NoError(t, err)
	assert.Equal(t, before.Mode(), after.Mode())
	assert.Equal(t, before.ModTime(), after.ModTime())
	assert.Zero(t, uidOfFile(t, sftpPath))
	assert.Equal(t, text, sum(strings.NewReader(contents(sftpPath))))
}

// hello is what an sftp client says first; served is how a server answers.
const hello = "\x00\x00\x00\x05\x01\x00\x00\x00\x03"

var served = regexp.MustCompile(`^\x00\x00..\x02\x00\x00\x00\x03(?s:.*)posix-rename@openssh.com`)

func TestSFTPInRootMode(t *testing.T) {
	own(t, oneJail("bare", busyboxRoot, "userns = false", `users = ["centos"]`))
	r := runCommand(t, exec.Command("ssh", append(subsystem(t, forced, external), "-l", "centos", "-s", "forced", "sftp")...), strings.NewReader(hello))
	assert.Zero(t, r.status, r.stderr)
	assert.Regexp(t, served, r.stdout)
}

// A host on which the server is not installed has jails all the same, and says
// what is missing.
func TestSFTPServerIsNotInstalled(t *testing.T) {
	alone(t)
	require.NoError(t, os.Rename(sftpPath, sftpPath+".away"))
	t.Cleanup(func() { require.NoError(t, os.Rename(sftpPath+".away", sftpPath)) })
	s, err := serve(standardRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	assert.Equal(t, result{stdout: "here\n"}, run(t, forced, ask{as: centos, cmd: "echo here"}))
	for _, command := range []string{external, internal} {
		r := runCommand(t, exec.Command("ssh", append(subsystem(t, forced, command), "-l", "centos", "-s", "forced", "sftp")...), nil)
		assert.Equal(t, result{status: 127}, r)
		r = run(t, forced, ask{as: centos, cmd: command})
		assert.Equal(t, 127, r.status)
		assert.Regexp(t, `^jail-enter: .*the built-in sftp server was not installed.*\n$`, r.stderr)
	}
	r := sftp(t, subsystem(t, forced, external), forced, work, "pwd\n")
	assert.Zero(t, r.status, "the tree's own: %s", r.stderr)
	assert.Contains(t, contents(world.log("serve.log")), "the built-in sftp server "+sftpPath+" is missing")
	check := runCommand(t, exec.Command(initPath, "check"), nil)
	assert.Contains(t, check.stdout, "warning: "+sftpPath+": does not exist")
}

// A new server is used by jails that start after it was installed.
func TestSFTPServerIsUpgraded(t *testing.T) {
	s := own(t, standardRegistry())
	options := subsystem(t, forced, external)
	first := servedBy(t, options, forced, centos)
	require.NoError(t, command("cp", "-p", sftpPath, sftpPath+".new"))
	require.NoError(t, os.Rename(sftpPath+".new", sftpPath))
	assert.True(t, os.SameFile(first, servedBy(t, options, forced, centos)), "a running jail keeps the one it has")
	require.NoError(t, command(initPath, "stop", "centos"))
	eventually(t, "the jail has ended", func() bool { return len(jailPIDs("centos")) == 0 })
	now, err := os.Stat(sftpPath)
	require.NoError(t, err)
	assert.True(t, os.SameFile(now, servedBy(t, options, forced, centos)))
	assert.False(t, s.ended())
}
