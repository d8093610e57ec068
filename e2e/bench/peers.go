package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"jail/internal/rootfs"
	"jail/internal/wire"
)

// peer is another program that enters a running container.
type peer struct {
	name   string
	err    error // why it cannot be had here
	enter  []string
	tty    []string // the same with a terminal
	remove [][]string
}

func (p *peer) stop() {
	for _, argv := range p.remove {
		_ = command(argv[0], argv[1:]...)
	}
}

// contestant is the peer running argv.
func (p *peer) contestant(argv ...string) *contestant {
	return &contestant{name: p.name, argv: append(append([]string(nil), p.enter...), argv...), err: p.err}
}

// containers starts a container for each peer, once.
func (b *bench) containers() []*peer {
	if b.peers == nil {
		b.peers = []*peer{b.nsenter(), b.lxc(), b.oci("crun"), b.oci("runc")}
	}
	return b.peers
}

func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errors.New("not installed")
	}
	return path, nil
}

// nsenter enters the jail itself.
func (b *bench) nsenter() *peer {
	p := &peer{name: "nsenter -a (as root)"}
	path, err := find("nsenter")
	if err != nil {
		p.err = err
		return p
	}
	p.enter = []string{path, "-t", strconv.Itoa(b.server.pid("bench")), "-a", "--"}
	return p
}

// lxc makes a container with the host's network and no seccomp policy.
func (b *bench) lxc() *peer {
	p := &peer{name: "lxc-attach"}
	attach, err := find("lxc-attach")
	if err != nil {
		p.err = err
		return p
	}
	const dir, name = "/run/bench/lxc", mark
	config := fmt.Sprintf(`lxc.rootfs.path = dir:%s
lxc.uts.name = lxc
lxc.net.0.type = none
lxc.mount.auto = proc:mixed
lxc.autodev = 1
lxc.pty.max = 64
lxc.init.cmd = /bin/sleep 100000
lxc.apparmor.profile = unchanged
`, b.root("lxc"))
	p.err = os.MkdirAll(filepath.Join(dir, name), 0o755)
	if p.err == nil {
		p.err = os.WriteFile(filepath.Join(dir, name, "config"), []byte(config), 0o644)
	}
	if p.err == nil {
		p.err = command("lxc-start", "-n", name, "-P", dir, "-d", "-o", "/run/bench/lxc.log")
	}
	p.enter = []string{attach, "-n", name, "-P", dir, "--"}
	p.tty = p.enter
	p.remove = [][]string{{"lxc-stop", "-k", "-n", name, "-P", dir}}
	return p
}

// oci makes a container of the Open Container Initiative's kind without a
// network namespace.
func (b *bench) oci(name string) *peer {
	p := &peer{name: name + " exec"}
	path, err := find(name)
	if err != nil {
		p.err = err
		return p
	}
	type m = map[string]any
	space := func(names ...string) (all []m) {
		for _, n := range names {
			all = append(all, m{"type": n})
		}
		return all
	}
	config, err := json.Marshal(m{
		"ociVersion": "1.0.2",
		"process": m{"user": m{"uid": 0, "gid": 0}, "args": []string{"/bin/sleep", "100000"}, "env": []string{"PATH=/bin"},
			"cwd": "/", "noNewPrivileges": true},
		"root":     m{"path": b.root("oci")},
		"hostname": name,
		"mounts": []m{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
			{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
			{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
		},
		"linux": m{"namespaces": space("pid", "ipc", "uts", "mount")},
	})
	bundle, state, id := "/run/bench/"+name, "/run/bench/state-"+name, mark+"-"+name
	p.err = errors.Join(err, os.MkdirAll(bundle, 0o755), os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o644))
	if p.err != nil {
		return p
	}
	// The container's own standard output must not keep a pipe of ours open.
	script := fmt.Sprintf("exec %s --root %s run -d -b %s %s </dev/null >/dev/null 2>%s.err", path, state, bundle, id, bundle)
	if err := command("/bin/sh", "-c", script); err != nil {
		text, _ := os.ReadFile(bundle + ".err")
		p.err = fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	p.enter = []string{path, "--root", state, "exec", id}
	p.tty = []string{path, "--root", state, "exec", "-t", id}
	p.remove = [][]string{{path, "--root", state, "delete", "-f", id}}
	return p
}

// sandbox is bwrap making what a jail has: the mounts of rootfs.Plan, the same
// new namespaces and, as jail-init, a first process that reaps. It is run as
// root with a user namespace that maps root alone.
var sandbox = sync.OnceValues(func() ([]string, error) {
	path, err := find("bwrap")
	if err != nil {
		return nil, err
	}
	args := []string{path, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
		"--die-with-parent", "--bind", "", "/"}
	for _, op := range rootfs.Plan(&wire.Setup{PtyMax: 256}) {
		switch op.Kind {
		case rootfs.Proc:
			args = append(args, "--proc", op.Target)
		case rootfs.ReadOnly:
			// It protects sys, irq, bus and sysrq-trigger by itself.
			if op.Target == "/proc/fs" && exists(op.Target) {
				args = append(args, "--ro-bind", op.Target, op.Target)
			}
		case rootfs.Mask:
			if !exists(op.Target) {
				continue
			}
			if st, err := os.Stat(op.Target); err == nil && st.IsDir() {
				args = append(args, "--tmpfs", op.Target, "--remount-ro", op.Target)
			} else {
				args = append(args, "--ro-bind", "/dev/null", op.Target)
			}
		case rootfs.Tmpfs:
			if op.Target == "/dev" {
				args = append(args, "--dev", "/dev") // with its nodes, links and devpts
				continue
			}
			args = append(args, "--tmpfs", op.Target)
			if op.ReadOnly {
				args = append(args, "--remount-ro", op.Target)
			}
		case rootfs.Mqueue:
			args = append(args, "--mqueue", op.Target)
		}
	}
	return args, nil
})

// bwrap is the command line of bwrap running argv on a tree.
func (b *bench) bwrap(root string, argv ...string) ([]string, error) {
	all, err := sandbox()
	if err != nil {
		return nil, err
	}
	all = append(append([]string(nil), all...), argv...)
	for i, a := range all {
		if a == "--bind" {
			all[i+1] = root
			break
		}
	}
	return all, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
