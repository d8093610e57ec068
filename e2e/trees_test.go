package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// treeMakers make the root file systems the tests start from, each once.

var treeMakers = map[string]func(dir string) error{
	"debian":  makeDebian,
	"busybox": makeBusybox,
}

// treeRecipes tell a tree from one that is made otherwise.
var treeRecipes = map[string]string{"debian": debianPackages, "busybox": "2"}

// debianPackages are needed beyond the essential ones: ps, an sftp-server, a
// terminal multiplexer, Python to ask the kernel directly, what the attacks and
// what clients need at this end.
const debianPackages = "procps,openssh-sftp-server,tmux,python3,apt,sudo,strace,gdb-minimal,dbus-daemon,dbus-bin,libcap2-bin," +
	"openssh-client,rsync,git,borgbackup,mosh"

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
		tree := filepath.Join(kept, name)
		// A tree by another recipe than today's is made again.
		made, _ := os.ReadFile(tree + ".recipe")
		if string(made) != treeRecipes[name] {
			fresh := tree + ".new"
			if err := os.RemoveAll(fresh); err != nil {
				return err
			}
			if err := make(fresh); err != nil {
				return fmt.Errorf("making the %s tree: %w", name, err)
			}
			if err := os.RemoveAll(tree); err != nil {
				return err
			}
			if err := os.Rename(fresh, tree); err != nil {
				return err
			}
			if err := os.WriteFile(tree+".recipe", []byte(treeRecipes[name]), 0o644); err != nil {
				return err
			}
		}
		if err := command("cp", "-a", "--reflink=auto", tree, filepath.Join(roots, name)); err != nil {
			return err
		}
	}
	return nil
}

func makeDebian(dir string) error {
	return command("mmdebstrap", "--quiet", "--variant=essential", "--include="+debianPackages,
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", dir)
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
