package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// naively runs a script as those set up containers who trust the paths in a root
// file system: in mount and pid namespaces of its own, with $R for the root.
func naively(t *testing.T, root, script string) string {
	t.Helper()
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "R="+root)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// TestAttackSetup gives jails root file systems that lead their set-up astray,
// the naive set-up first.
func TestAttackSetup(t *testing.T) {
	alone(t)
	p := newPrey(t)
	arm(t, busyboxRoot)
	// plant puts something into both trees, the naive one and the jail's, at path.
	plant := func(t *testing.T, naive, path string, f func(path string) error) {
		t.Helper()
		for _, tree := range []string{naive, busyboxRoot} {
			full := filepath.Join(tree, path)
			require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
			require.NoError(t, f(full))
			t.Cleanup(func() { os.RemoveAll(full) })
		}
	}
	link := func(to string) func(string) error { return func(path string) error { return os.Symlink(to, path) } }
	copyTree := func(t *testing.T, name string) string {
		t.Helper()
		root := filepath.Join(p.dir, name)
		require.NoError(t, command("cp", "-a", busyboxRoot, root))
		return root
	}
	for _, mode := range attackModes {
		if mode.name == "root-mode" {
			continue // container_root's root can do all that this one's can
		}
		jail := func(t *testing.T) {
			t.Helper()
			s, err := serve(underAttack(mode.lines))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.stop()) })
		}
		procFile := func(t *testing.T, path string) verdict {
			t.Helper()
			cmd := exec.Command(initPath, append([]string{"exec", "attacked", attackPath}, p.args(root, "path="+path, "-procfile")...)...)
			return p.attack(t, cmd)["-procfile"]
		}

		// What masks files is taken from the root file system.
		t.Run("CVE-2025-31133/"+mode.name, func(t *testing.T) {
			naive := copyTree(t, "31133-"+mode.name)
			plant(t, naive, "dev/null", link("/proc/sys/kernel/core_pattern"))
			out := naively(t, naive, "mount -t proc proc $R/proc; mount --bind $R/dev/null $R/proc/filesystems\n"+
				"exec chroot $R "+attackPath+" one path=/proc/filesystems -procfile")
			assert.Contains(t, out, "got\t", "naively")
			jail(t)
			for _, path := range []string{"/proc/kallsyms", "/proc/keys", "/dev/null", "/proc/sys/kernel/core_pattern"} {
				v := procFile(t, path)
				assert.False(t, v.got, "%s: %s", path, v)
			}
			assert.Equal(t, "1 3\n", run(t, forced, ask{as: centos, cmd: "stat -c '%t %T' /dev/null"}).stdout)
		})
		// So is the terminal that becomes the console.
		t.Run("CVE-2025-52565/"+mode.name, func(t *testing.T) {
			naive := copyTree(t, "52565-"+mode.name)
			plant(t, naive, "dev/pts/0", link("/proc/sys/kernel/core_pattern"))
			plant(t, naive, "dev/console", func(path string) error { return os.WriteFile(path, nil, 0o600) })
			plant(t, naive, "dev/ptmx", link("/proc/sys/kernel/core_pattern"))
			out := naively(t, naive, "mount --bind $R/dev/pts/0 $R/dev/console\nexec chroot $R "+attackPath+" one path=/dev/console -procfile")
			assert.Contains(t, out, "got\t", "naively")
			jail(t)
			for _, path := range []string{"/dev/console", "/dev/ptmx", "/dev/pts/0"} {
				v := procFile(t, path)
				assert.False(t, v.got, "%s: %s", path, v)
			}
			a := onTTY("tty")
			a.as = centos
			assert.Equal(t, result{stdout: "/dev/pts/0\r\n"}, run(t, forced, a))
		})
		// What is written to procfs goes to where the root file system says.
		t.Run("CVE-2025-52881/"+mode.name, func(t *testing.T) {
			naive := copyTree(t, "52881-"+mode.name)
			victim := filepath.Join(p.dir, "victim-"+mode.name)
			require.NoError(t, os.WriteFile(victim, []byte("whole\n"), 0o644))
			for _, path := range []string{"proc/sys/user/max_user_namespaces", "proc/1/oom_score_adj", "proc/self"} {
				plant(t, naive, path, link(victim))
			}
			t.Cleanup(func() {
				os.RemoveAll(filepath.Join(busyboxRoot, "proc/sys"))
				os.RemoveAll(filepath.Join(busyboxRoot, "proc/1"))
			})
			naively(t, naive, "echo 0 >$R/proc/sys/user/max_user_namespaces")
			assert.Equal(t, "0\n", contents(victim), "naively")
			require.NoError(t, os.WriteFile(victim, []byte("whole\n"), 0o644))
			jail(t)
			r := run(t, forced, ask{as: centos, cmd: "cat /proc/sys/user/max_user_namespaces; stat -f -c %T /proc"})
			if mode.name == "userns" {
				assert.Equal(t, "0\nproc\n", r.stdout)
			} else {
				assert.True(t, strings.HasSuffix(r.stdout, "\nproc\n"), "%q", r.stdout)
			}
			assert.Equal(t, "whole\n", contents(victim))
		})
		// A working directory below a descriptor of the host's.
		t.Run("CVE-2024-21626/"+mode.name, func(t *testing.T) {
			w := newWeak(t, p, "chroot-"+mode.name, nil)
			cmd := w.command(tenant, "/bin/sh", "-c", "cd /proc/self/fd/3 && exec "+attackPath+` "$@"`, "sh")
			cmd.Args = append(cmd.Args, p.args(tenant, "-cwd")...)
			v := p.attack(t, cmd)["-cwd"]
			assert.True(t, v.got, "naively: %s", v)
			jail(t)
			passwd := filepath.Join(busyboxRoot, "etc/passwd")
			text := contents(passwd)
			defer os.WriteFile(passwd, []byte(text), 0o644)
			homes := []string{"/proc/1/cwd", "/proc/1/root", "/proc/self/cwd/../.."}
			for fd := range 16 {
				homes = append(homes, fmt.Sprintf("/proc/self/fd/%d/../../..", fd), fmt.Sprintf("/proc/self/fd/%d", fd))
			}
			for _, home := range homes {
				require.NoError(t, os.WriteFile(passwd, []byte(strings.Replace(text, centos.home, home, 1)), 0o644))
				cmd := enter(centos, nil, "jail-enter", "-c", strings.Join(append([]string{attackPath}, p.args(tenant, "-cwd")...), " "))
				v := p.attack(t, cmd)["-cwd"]
				assert.False(t, v.got, "home %s: %s", home, v)
			}
		})
		// A shell that is the host's program.
		t.Run("CVE-2019-5736/"+mode.name, func(t *testing.T) {
			jail(t)
			passwd := filepath.Join(busyboxRoot, "etc/passwd")
			text := contents(passwd)
			defer os.WriteFile(passwd, []byte(text), 0o644)
			before := hostPrograms(t)
			script := filepath.Join(busyboxRoot, "usr/local/bin/script")
			require.NoError(t, os.WriteFile(script, []byte("#!/proc/self/exe\n"), 0o755))
			defer os.Remove(script)
			// The first is what PID 1's child executes itself from, and ends in its first lines.
			refused := result{stderr: "jail-pid1: is the first process of a jail, and started by jail-init only\n", status: 64}
			hidden := result{stderr: "/proc/1/exe: Permission denied\n", status: 1}
			for shell, want := range map[string]result{"/proc/self/exe": refused, "/proc/1/exe": hidden, "/usr/local/bin/script": refused} {
				changed := strings.ReplaceAll(text, "/bin/sh", shell)
				require.NotEqual(t, text, changed)
				require.NoError(t, os.WriteFile(passwd, []byte(changed), 0o644))
				assert.Equal(t, want, run(t, forced, ask{as: centos, cmd: "serve"}), "%s as tenant", shell)
				assert.Equal(t, want, runCommand(t, exec.Command(initPath, "exec", "attacked", "serve"), nil), "%s as root", shell)
			}
			assert.Equal(t, before, hostPrograms(t))
			assert.Len(t, jailPIDs("attacked"), 1)
		})
		// A process between taking on an identity and executing the shell.
		t.Run("CVE-2016-9962/"+mode.name, func(t *testing.T) {
			jail(t)
			done := make(chan struct{})
			var storm sync.WaitGroup
			storm.Go(func() {
				for range 800 {
					select {
					case <-done:
						return
					case <-time.After(8 * time.Millisecond):
					}
					if fd, err := dialQuietly(centos); err == nil {
						defer unix.Close(fd)
						sendRequest(fd, "true")
					}
				}
			})
			cmd := append([]string{attackPath}, p.args(tenant, "-inspect")...)
			r := run(t, forced, ask{as: centos, cmd: strings.Join(cmd, " ")})
			close(done)
			storm.Wait()
			v := verdicts(t, r.stdout)["-inspect"]
			assert.False(t, v.got, "%s", v)
			assert.Equal(t, "caught 3", v.detail, "some were there to be had")
		})
		// A set-uid program of root's inside, for a user of the host.
		t.Run("CVE-2021-41091/"+mode.name, func(t *testing.T) {
			naive := copyTree(t, "41091-"+mode.name)
			arm(t, naive)
			cmd := asAlice(filepath.Join(naive, "usr/local/bin/suid"), "one", "-euid0")
			assert.Contains(t, runCommand(t, cmd, nil).stdout, "got\t", "where the directory above is open")
			jail(t)
			r := runCommand(t, exec.Command(initPath, "exec", "attacked", "/bin/busybox", "sh", "-c",
				"cp /usr/local/bin/attack /tmp/suid && chmod 4755 /tmp/suid && stat -c %a /tmp/suid"), nil)
			assert.Equal(t, "4755\n", r.stdout, "%s", r.stderr)
			defer os.Remove(filepath.Join(busyboxRoot, "tmp/suid"))
			for _, path := range []string{"tmp/suid", "usr/local/bin/suid"} {
				err := asAlice(filepath.Join(busyboxRoot, path), "one", "-euid0").Run()
				assert.ErrorIs(t, err, unix.EACCES)
			}
		})
	}

	// A target that is swapped for a link while the mounts are made.
	t.Run("CVE-2021-30465", func(t *testing.T) {
		victim, source := filepath.Join(p.dir, "mount-victim"), filepath.Join(p.dir, "mount-source")
		require.NoError(t, os.Mkdir(source, 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(victim, "sub"), 0o755))
		naive := copyTree(t, "30465")
		require.NoError(t, os.Symlink(victim, filepath.Join(naive, "mnt")))
		out := naively(t, naive, "mount --bind "+source+" $R/mnt/sub; grep -c ' "+victim+"/sub ' /proc/self/mountinfo")
		assert.Equal(t, "1\n", out, "naively it lands outside")

		dir, swapped := filepath.Join(busyboxRoot, "mnt"), filepath.Join(busyboxRoot, "mnt.link")
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
		require.NoError(t, os.Symlink(victim, swapped))
		t.Cleanup(func() { os.RemoveAll(dir); os.RemoveAll(swapped) })
		s, err := serve(oneJail("attacked", busyboxRoot, `users = ["centos"]`, fmt.Sprintf("mounts = [ { source = %q, target = \"/mnt/sub\" } ]", source)))
		require.NoError(t, err)
		stop := make(chan struct{})
		var swapping sync.WaitGroup
		swapping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, swapped, unix.RENAME_EXCHANGE)
				}
			}
		})
		started, failed := 0, 0
		for range 8 {
			r := run(t, forced, ask{as: centos, cmd: `awk '$5 !~ "^/(proc|dev|sys)" && $5 != "/" {print $5}' /proc/self/mountinfo`})
			if r.status == 125 {
				failed++
				continue
			}
			started++
			assert.Contains(t, []string{"/mnt/sub\n", "/mnt.link/sub\n"}, r.stdout)
			assert.NoError(t, command(initPath, "stop", "attacked"))
		}
		close(stop)
		swapping.Wait()
		require.NoError(t, s.stop())
		t.Logf("%d starts went well, %d found the link", started, failed)
		left, err := os.ReadDir(filepath.Join(victim, "sub"))
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	// A file system below the source of a read-only mount.
	t.Run("F13", func(t *testing.T) {
		source := filepath.Join(p.dir, "nested")
		below := filepath.Join(source, "below")
		require.NoError(t, os.MkdirAll(below, 0o777))
		require.NoError(t, unix.Mount("tmpfs", below, "tmpfs", 0, "mode=777"))
		t.Cleanup(func() { assert.NoError(t, unix.Unmount(below, 0)) })
		naive := copyTree(t, "nested-tree")
		require.NoError(t, os.Mkdir(filepath.Join(naive, "mnt"), 0o755))
		naively(t, naive, "mount --rbind "+source+" $R/mnt; mount -o remount,bind,ro $R/mnt; chroot $R /bin/touch /mnt/below/file")
		assert.FileExists(t, filepath.Join(below, "file"), "naively")
		for name, mode := range idModes {
			s, err := serve(oneJail("attacked", busyboxRoot, mode, `users = ["centos"]`,
				fmt.Sprintf("mounts = [ { source = %q, target = \"/mnt\", readonly = true } ]", source)))
			require.NoError(t, err)
			r := run(t, forced, ask{as: centos, cmd: "touch /mnt/file /mnt/below/other 2>&1 | grep -c Read-only; ls /mnt/below"})
			assert.Equal(t, "2\n", r.stdout, "%s", name)
			require.NoError(t, s.stop())
		}
		os.RemoveAll(filepath.Join(busyboxRoot, "mnt"))
	})
}

// TestAttackLibraries watches which files of a root file system are opened by
// programs that are none of its own: libraries, name services, locales and time
// zones of a tenant's in a privileged process are CVE-2019-14271 and
// CVE-2025-32463.
func TestAttackLibraries(t *testing.T) {
	alone(t)
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	require.NoError(t, err)
	defer unix.Close(inotify)
	watched := make(map[int32]string)
	for _, dir := range []string{"etc", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib/locale", "usr/share/zoneinfo", "etc/ld.so.conf.d", "etc/default", "root", argv.home, argv.home + "/.ssh"} {
		if wd, err := unix.InotifyAddWatch(inotify, filepath.Join(debianRoot, dir), unix.IN_OPEN); err == nil {
			watched[int32(wd)] = "/" + strings.TrimPrefix(dir, "/")
		}
	}
	opened := func() []string {
		seen := make(map[string]bool)
		buffer := make([]byte, 64<<10)
		for {
			n, err := unix.Read(inotify, buffer)
			if n <= 0 || err != nil {
				break
			}
			for b := buffer[:n]; len(b) >= unix.SizeofInotifyEvent; {
				size := unix.SizeofInotifyEvent + int(b[12]) + int(b[13])<<8
				name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:size], "\x00"))
				if b[7]&0x40 == 0 { // not IN_ISDIR
					seen[filepath.Join(watched[int32(b[0])|int32(b[1])<<8], name)] = true
				}
				b = b[size:]
			}
		}
		var list []string
		for path := range seen {
			list = append(list, path)
		}
		return list
	}
	require.NoError(t, command("chroot", debianRoot, "/usr/bin/id", work.name))
	assert.Subset(t, opened(), []string{"/usr/lib/x86_64-linux-gnu/libc.so.6", "/etc/nsswitch.conf"}, "a program that only changes its root")

	for _, mode := range attackModes {
		s, err := serve(oneJail("debian", debianRoot, mode.lines, `users = ["argv", "debian"]`))
		require.NoError(t, err)
		// The shell of this account is a static program, so that nothing inside
		// opens a library either.
		r := runCommand(t, exec.Command("ssh", "-F", sshDir+"/config", "-S", "none", "-l", argv.login, "--", string(forced), "x"), nil)
		assert.Equal(t, quoted("argv", "-c", "x"), r.stdout)
		for _, verb := range [][]string{{"ps"}, {"check"}, {"exec", "-u", fmt.Sprint(argv.id), "debian"}} {
			runCommand(t, exec.Command(initPath, verb...), nil)
		}
		require.NoError(t, s.stop())
		for _, path := range opened() {
			assert.Contains(t, []string{"/etc/passwd", "/etc/group", argv.home + "/.ssh/authorized_keys", "/etc/environment", "/etc/default/locale", "/etc/localtime", "/etc/hosts"}, path, "%s", mode.name)
		}
	}
}
