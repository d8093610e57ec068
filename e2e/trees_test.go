package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// treeMakers make the root file systems the tests start from, each once.

var treeMakers = map[string]func(dir string) error{
	"debian":   makeDebian,
	"busybox":  makeBusybox,
	"services": makeServices,
	"daemons":  makeDaemons,
}

// rareTrees are large, and for one test each: they are made when that is run, or no test at
// all, which is how trees are made beforehand.
var rareTrees = map[string]string{"daemons": "TestNetworkDaemons"}

// wanted reports whether a tree is for any of the tests that -test.run names.
func wanted(tree, run string) bool {
	test, rare := rareTrees[tree]
	if !rare || run == "^$" {
		return true
	}
	name, _, _ := strings.Cut(run, "/")
	match, err := regexp.Compile(name)
	return err == nil && match.MatchString(test)
}

// treeRecipes tell a tree from one that is made otherwise.
var treeRecipes = map[string]string{"debian": debianPackages, "busybox": "2", "services": servicePackages, "daemons": daemonPackages}

// debianPackages are needed beyond the essential ones: ps, an sftp-server, a
// terminal multiplexer, Python to ask the kernel directly, what the attacks and
// what clients need at this end.
const debianPackages = "procps,openssh-sftp-server,tmux,python3,apt,sudo,strace,gdb-minimal,dbus-daemon,dbus-bin,libcap2-bin," +
	"openssh-client,rsync,git,borgbackup,mosh,mercurial,subversion,unison,git-annex"

// copyTrees makes the trees that are missing, and private copies of them in
// scratch that the tests may wreck. The oracle needs no copy: it has an
// overlay on the kept tree. A jail cannot: an overlay cannot be idmapped
// before Linux 6.17.
func copyTrees(scratch string) error {
	kept := os.Getenv("JAIL_TEST_TREES")
	if kept == "" {
		root, err := moduleRoot()
		if err != nil {
			return err
		}
		kept = filepath.Join(root, "build", "trees")
	}
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(kept, ".gitignore"), []byte("*\n"), 0o644); err != nil {
		return err
	}
	if err := os.Symlink(kept, filepath.Join(scratch, "kept")); err != nil {
		return err
	}
	roots := filepath.Join(scratch, "roots")
	if err := os.Mkdir(roots, 0o700); err != nil {
		return err
	}
	for name, make := range treeMakers {
		if !wanted(name, flag.Lookup("test.run").Value.String()) {
			continue
		}
		tree, err := keepTree(kept, name, treeRecipes[name], make)
		if err != nil {
			return fmt.Errorf("the %s tree: %w", name, err)
		}
		keptTrees = append(keptTrees, tree)
		if err := command("cp", "-a", "--reflink=auto", filepath.Join(kept, name), filepath.Join(roots, name)); err != nil {
			return err
		}
		// Plain sshd has none here, and nothing to say of it; tests that want it put it there.
		if err := os.Remove(filepath.Join(roots, name, "var/log/lastlog")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keptTrees are the trees this run goes by, open and locked until it ends.
var keptTrees []*os.File

// keepTree makes sure that there is a tree by that recipe in the kept directory, and
// returns it, with a lock that keeps it from being removed. Several runs may be at it: one
// makes the tree, the others wait; a tree by another recipe takes the place of the one
// that is there at once, and that one is removed when nobody uses it any more.
func keepTree(kept, name, recipe string, make func(dir string) error) (tree *os.File, err error) {
	// A lock is its holder's as long as that lives, and no longer.
	maker, err := os.OpenFile(filepath.Join(kept, name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer maker.Close()
	if err := flock(maker, unix.LOCK_EX); err != nil {
		return nil, err
	}
	path := filepath.Join(kept, name)
	made, _ := os.ReadFile(path + ".recipe")
	if string(made) != recipe {
		sweepTrees(kept, name)
		if err := replaceTree(path, recipe, make); err != nil {
			return nil, err
		}
		sweepTrees(kept, name)
	}
	return lockTree(path, unix.LOCK_SH)
}

// replaceTree makes a tree beside path, under a name of its own, and puts it there.
func replaceTree(path, recipe string, make func(dir string) error) error {
	parent, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	mine, err := lockTree(parent, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer mine.Close()
	fresh := filepath.Join(parent, "tree")
	if err := make(fresh); err != nil {
		return errors.Join(fmt.Errorf("making it: %w", err), removeTree(parent))
	}
	// In between, what is there is by no recipe, and would be made again.
	if err := os.Remove(path + ".recipe"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if err == unix.ENOENT { // there is none yet
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return err
	}
	note := filepath.Join(parent, "recipe")
	return errors.Join(os.WriteFile(note, []byte(recipe), 0o644), os.Rename(note, path+".recipe"))
}

// sweepTrees removes what is in the kept directory beside the tree of that name: what a
// run that was interrupted had half made, and trees that had to make room. Those that
// somebody uses stay.
func sweepTrees(kept, name string) {
	beside, _ := filepath.Glob(filepath.Join(kept, "."+name+".*"))
	for _, parent := range beside {
		unused := func(dir string) *os.File {
			lock, err := lockTree(dir, unix.LOCK_EX|unix.LOCK_NB)
			if err != nil {
				return nil
			}
			return lock
		}
		half := unused(parent)
		if half == nil {
			continue
		}
		old := unused(filepath.Join(parent, "tree"))
		if _, err := os.Lstat(filepath.Join(parent, "tree")); old != nil || os.IsNotExist(err) {
			_ = removeTree(parent)
		}
		if old != nil {
			old.Close()
		}
		half.Close()
	}
}

// removeTree removes what may be half a system, and nothing that may be mounted in it.
func removeTree(dir string) error { return command("rm", "-rf", "--one-file-system", dir) }

// lockTree opens a directory and locks it (flock(2)).
func lockTree(dir string, how int) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := flock(d, how); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// servicePackages are daemons as Debian has them.
const servicePackages = "cron,nginx-light,postfix"

// daemonPackages are what people run in a jail, and what talks to it.
const daemonPackages = "redis-server,postgresql,nginx-light,dnsmasq-base,bind9-dnsutils,curl,nodejs,python3-minimal"

func makeDebian(dir string) error { return debootstrap(dir, debianPackages) }

func makeServices(dir string) error { return debootstrap(dir, servicePackages) }

func makeDaemons(dir string) error { return debootstrap(dir, daemonPackages) }

func debootstrap(dir, packages string) error {
	// It ends with whoever has asked for it, and not some minutes later, and what it mounts
	// in the tree with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("mmdebstrap", "--quiet", "--variant=essential", "--include="+packages,
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, out)
	}
	return nil
}

func makeBusybox(dir string) error {
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr/bin", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(dir, d), 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := command("cp", busybox, filepath.Join(dir, "bin/busybox")); err != nil {
		return err
	}
	if err := command("chroot", dir, "/bin/busybox", "--install", "-s", "/bin"); err != nil {
		return fmt.Errorf("busybox must be static: %w", err)
	}
	files := map[string]string{
		"issue":   "BusyBox \\n \\l\n\n",
		"passwd":  "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"shadow":  "root:*:19000:0:99999:7:::\n",
		"group":   "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"profile": "export PS1='$ '\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(filepath.Join(dir, "etc/shadow"), 0o600), os.Chmod(filepath.Join(dir, "root"), 0o700))
}
