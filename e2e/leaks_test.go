package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// snapshot is what a test must leave as it was. Every map's value describes
// its key for the message.
type snapshot struct {
	processes   map[string]string // by pid and start time
	ended       map[string]bool   // those that are ending, or that their parents have not taken notice of yet
	mounts      map[string]string
	files       map[string]string // in the places shared by all: /tmp, /run, ptys
	descriptors map[string]int    // of the processes of ours that stay, by kind
}

// leaving is how long the last processes of a session may take to be gone
// after its client.
const leaving = 10 * time.Second

// watch fails the test if it leaves anything behind. It also shows the logs of
// a test that failed.
func watch(t *testing.T) {
	t.Helper()
	logs := make(map[string]int64)
	for _, name := range []string{"serve.log", "sshd.plain.log", "sshd.forced.log", "sshd.login.log"} {
		if info, err := os.Stat(world.log(name)); err == nil {
			logs[name] = info.Size()
		} else {
			logs[name] = 0
		}
	}
	before := takeSnapshot()
	t.Cleanup(func() {
		var left []string
		if !poll(leaving, func() bool {
			left = before.changes(takeSnapshot())
			return len(left) == 0
		}) {
			t.Errorf("left behind:\n\t%s", strings.Join(left, "\n\t"))
			before.killNew()
		}
		if !t.Failed() {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(logs)) {
			if text := world.tail(name, logs[name]); text != "" {
				t.Logf("%s:\n%s", name, text)
			}
		}
	})
}

var serveFiles = []string{"/run/jail", "/run/jail/ctl", "/run/jail/serve.lock", "/run/jail/host", "/run/jail/host/resolv.conf", "/run/jail/registry", "/run/jail/network.lock"}

// lockFiles are empty, one for each rootfs that a jail has run on since the machine was
// booted: a lock's file that is removed is no lock.
const lockFiles = "/run/jail/lock/"

// ownQueues are the sockets of logins that have been here, on which serve alone hears who has
// called: one for each, as long as its jail runs.
const ownQueues = "/run/jail/[0-9]*/calls"

func takeSnapshot() snapshot {
	s := snapshot{
		processes:   make(map[string]string),
		ended:       make(map[string]bool),
		mounts:      make(map[string]string),
		files:       make(map[string]string),
		descriptors: make(map[string]int),
	}
	all := processes()
	roots := world.standingRoots()
	queues, _ := filepath.Glob(ownQueues)
	for pid, p := range all {
		if p.standing(all, roots) {
			continue
		}
		key := fmt.Sprintf("%d/%s", pid, p.start)
		s.processes[key] = fmt.Sprintf("process %d (parent %d): %s", pid, p.parent, p.args)
		if p.state == "Z" || strings.HasPrefix(p.args, "[") {
			s.ended[key] = true
		}
		if strings.HasPrefix(p.args, "jail-init") || strings.HasPrefix(p.args, initPath) {
			for kind, n := range descriptorsOf(pid) {
				if kind == "socket" && p.args == initPath+" serve" {
					n -= len(queues)
				}
				s.descriptors[fmt.Sprintf("%s in process %d: %s", kind, pid, p.args)] = n
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		// By its number and what it shows: the directory it is on may be renamed by
		// somebody else on this machine (proc_pid_mountinfo(5)).
		if f := strings.SplitN(line, " ", 6); len(f) == 6 {
			s.mounts[strings.Join(slices.Delete(f, 4, 5), " ")] = "mount " + strings.TrimSpace(line)
		}
	}
	for _, place := range []string{"/tmp", "/run", "/dev/pts"} {
		filepath.WalkDir(place, func(path string, _ fs.DirEntry, err error) error {
			// Each connection has one such file (ExposeAuthInfo), and some
			// connections outlive the test. sshd leaves its agent's socket when
			// ssh ends its ProxyCommand by a signal. The others are no login's:
			// one serve leaves them to the next.
			if err == nil && !strings.HasPrefix(path, "/tmp/sshauth.") && !strings.HasPrefix(path, "/tmp/ssh-") &&
				!strings.HasPrefix(path+"/", lockFiles) && !slices.Contains(serveFiles, path) && !slices.Contains(queues, path) {
				s.files[path] = "file " + path
			}
			return nil
		})
	}
	return s
}

// descriptorsOf counts a process's descriptors by what they refer to, taking
// one pipe or socket for another.
func descriptorsOf(pid int) map[string]int {
	counts := make(map[string]int)
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			if kind, _, numbered := strings.Cut(target, ":["); numbered && kind != "anon_inode" {
				target = kind
			}
			// The Go runtime makes one of each when it first needs them.
			if target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" {
				counts[target]++
			}
		}
	}
	return counts
}

func (s snapshot) changes(now snapshot) []string {
	var list []string
	compare := func(before, after map[string]string) {
		for key, text := range after {
			if _, ok := before[key]; !ok {
				list = append(list, "new: "+text)
			}
		}
		for key, text := range before {
			if _, ok := after[key]; !ok && !s.ended[key] {
				list = append(list, "gone: "+text)
			}
		}
	}
	compare(s.processes, now.processes)
	compare(s.mounts, now.mounts)
	compare(s.files, now.files)
	for what, n := range now.descriptors {
		// The process may have been about to close some at first.
		if before := s.descriptors[what]; n > before {
			list = append(list, fmt.Sprintf("descriptors: %d instead of %d of %s", n, before, what))
		}
	}
	slices.Sort(list)
	return list
}

// killNew spares the next tests what this one left.
func (s snapshot) killNew() {
	for key := range takeSnapshot().processes {
		if _, ok := s.processes[key]; ok {
			continue
		}
		pid, _, _ := strings.Cut(key, "/")
		if n, err := strconv.Atoi(pid); err == nil && n != os.Getpid() {
			syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

// process is one line of a process list.
type process struct {
	pid, parent int
	start       string // time, in ticks since boot
	args        string
	state       string
}

// processes lists the tests' pid namespace, jails included; zombies are their
// parents' affair only as long as these take no notice.
func processes() map[int]process {
	all := make(map[int]process)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		// The command's name in brackets may itself have any character.
		open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
		fields := strings.Fields(string(stat[end+1:]))
		if open < 0 || len(fields) < 20 {
			continue
		}
		p := process{pid: pid, state: fields[0], start: fields[19]}
		p.parent, _ = strconv.Atoi(fields[1])
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		p.args = strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
		if p.args == "" {
			p.args = "[" + string(stat[open+1:end]) + "]"
		}
		all[pid] = p
	}
	return all
}

// standing reports whether p only keeps a standing connection open: its root,
// or one of the sshd below it, but none of the sessions.
func (p process) standing(all map[int]process, roots map[int]bool) bool {
	if roots[p.pid] {
		return true
	}
	// sshd -i leaves a zombie, the child that has written its configuration to
	// sshd-session (sshd.c:send_rexec_state).
	if !p.ofSSHD("") && !(p.state == "Z" && p.args == "[sshd]") {
		return false
	}
	for parent, ok := all[p.parent]; ok; parent, ok = all[parent.parent] {
		if roots[parent.pid] {
			return true
		}
	}
	return false
}

// ofSSHD reports whether p is a process of sshd's for a connection of a login's,
// or of anybody's. It is another program since OpenSSH 9.8, and says so.
func (p process) ofSSHD(login string) bool {
	return strings.HasPrefix(p.args, "sshd: "+login) || strings.HasPrefix(p.args, "sshd-session: "+login)
}

// connections counts the processes of sshd for a login.
func connections(login string) int {
	n := 0
	for _, p := range processes() {
		if p.ofSSHD(login) && p.state != "Z" {
			n++
		}
	}
	return n
}

// running returns the processes whose arguments begin with text.
func running(text string) []process {
	var found []process
	for _, p := range processes() {
		if strings.HasPrefix(p.args, text) && p.state != "Z" && p.pid != os.Getpid() {
			found = append(found, p)
		}
	}
	return found
}

// jailPIDs returns every PID 1 of that jail, as the host sees it: none or one,
// if all is well. A child of one that is to become a session, or records a logout, has its arguments, too.
func jailPIDs(name string) []int {
	var pids []int
	all := processes()
	for pid, p := range all {
		if p.args == "jail-init: "+name && all[p.parent].args != p.args {
			pids = append(pids, pid)
		}
	}
	return pids
}
