package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// faults is what each system call can be refused with, as far as its manual page and
// the kernel go. The words after "may" in a page are not all equal: these are the
// errors of a machine that has run out of something, of a device, and of a signal.
//
// A call that is not here cannot fail in a way its caller could be asked to survive.
// close(2) and munmap(2) do their work whatever they return; the futex of the Go
// runtime, its signal mask, its alternate stack and the ids of the process have no
// error that valid arguments could meet.
var faults = map[string][]string{
	"accept4":                 {"EMFILE", "ECONNABORTED"},
	"bind":                    {"ENOMEM"},
	"brk":                     {"ENOMEM"},
	"capset":                  {"EPERM"},
	"chdir":                   {"EIO"},
	"chmod":                   {"EIO"},
	"clone":                   {"EAGAIN"},
	"clone3":                  {"EAGAIN"},
	"connect":                 {"EAGAIN", "EINTR", "ECONNREFUSED"},
	"copy_file_range":         {"EIO"},
	"dup":                     {"EMFILE"},
	"dup2":                    {"EINTR"},
	"dup3":                    {"EINTR"},
	"epoll_create1":           {"EMFILE"},
	"epoll_ctl":               {"ENOMEM"},
	"epoll_pwait":             {"EINTR"},
	"epoll_wait":              {"EINTR"},
	"eventfd2":                {"EMFILE"},
	"execve":                  {"ENOMEM"},
	"execveat":                {"ENOMEM"},
	"fchdir":                  {"EIO"},
	"fchmod":                  {"EIO"},
	"fchmodat":                {"EIO"},
	"fchown":                  {"EIO"},
	"fchownat":                {"EIO"},
	"fcntl":                   {"EMFILE"},
	"flock":                   {"EINTR", "ENOLCK"},
	"fsconfig":                {"ENOMEM"},
	"fsmount":                 {"ENOMEM"},
	"fsopen":                  {"ENOMEM"},
	"fstat":                   {"EIO"},
	"fstatfs":                 {"EIO"},
	"ftruncate":               {"ENOSPC"},
	"getdents64":              {"EIO"},
	"getrandom":               {"EINTR"},
	"getsockname":             {"ENOBUFS"},
	"getsockopt":              {"ENOMEM"},
	"inotify_add_watch":       {"ENOSPC"},
	"inotify_init1":           {"EMFILE"},
	"ioctl":                   {"EIO"},
	"kcmp":                    {"EPERM"},
	"keyctl":                  {"EDQUOT"},
	"kill":                    {"EPERM"},
	"landlock_create_ruleset": {"ENOMEM"},
	"landlock_restrict_self":  {"ENOMEM"},
	"lchown":                  {"EIO"},
	"linkat":                  {"ENOSPC"},
	"listen":                  {"EADDRINUSE"},
	"lseek":                   {"EIO"},
	"lstat":                   {"EIO"},
	"madvise":                 {"EAGAIN"},
	"memfd_create":            {"EMFILE"},
	"mkdir":                   {"ENOSPC"},
	"mkdirat":                 {"ENOSPC"},
	"mknodat":                 {"ENOSPC"},
	"mmap":                    {"ENOMEM"},
	"mount":                   {"ENOMEM"},
	"mount_setattr":           {"ENOMEM"},
	"move_mount":              {"ENOMEM"},
	"mremap":                  {"ENOMEM"},
	"newfstatat":              {"EIO"},
	"open":                    {"EMFILE"},
	"open_tree":               {"EMFILE"},
	"openat":                  {"EMFILE", "EINTR"},
	"openat2":                 {"EMFILE", "EAGAIN"},
	"pidfd_open":              {"EMFILE"},
	"pidfd_send_signal":       {"EPERM"},
	"pipe2":                   {"EMFILE"},
	"pivot_root":              {"ENOMEM"},
	"poll":                    {"ENOMEM", "EINTR"},
	"ppoll":                   {"ENOMEM", "EINTR"},
	"prctl":                   {"EPERM"},
	"pread64":                 {"EIO"},
	"prlimit64":               {"EPERM"},
	"pwrite64":                {"ENOSPC"},
	"read":                    {"EIO", "EINTR"},
	"readlink":                {"EIO"},
	"readlinkat":              {"EIO"},
	"recvfrom":                {"ENOMEM", "EINTR"},
	"recvmsg":                 {"ENOMEM", "EINTR"},
	"renameat":                {"ENOSPC"},
	"renameat2":               {"ENOSPC"},
	"rt_sigaction":            {"EINVAL"},
	"sched_getaffinity":       {"EPERM"},
	"seccomp":                 {"ENOMEM"},
	"sendmsg":                 {"ENOBUFS", "EINTR"},
	"sendto":                  {"ENOBUFS", "EINTR"},
	"setgroups":               {"ENOMEM"},
	"sethostname":             {"EPERM"},
	"setpgid":                 {"EPERM"},
	"setresgid":               {"EAGAIN"},
	"setresuid":               {"EAGAIN"},
	"setsid":                  {"EPERM"},
	"setsockopt":              {"ENOMEM"},
	"shutdown":                {"ENOTCONN"},
	"signalfd4":               {"EMFILE"},
	"socket":                  {"EMFILE"},
	"socketpair":              {"EMFILE"},
	"splice":                  {"ENOMEM"},
	"stat":                    {"EIO"},
	"statfs":                  {"EIO"},
	"statx":                   {"EIO"},
	"symlinkat":               {"ENOSPC"},
	"timerfd_create":          {"EMFILE"},
	"umount2":                 {"EBUSY"},
	"uname":                   {"EPERM"},
	"unlink":                  {"EIO"},
	"unlinkat":                {"EIO"},
	"unshare":                 {"ENOMEM"},
	"utimensat":               {"EIO"},
	"vfork":                   {"EAGAIN"},
	"wait4":                   {"EINTR"},
	"waitid":                  {"EINTR"},
	"write":                   {"EIO", "EINTR"},
	"writev":                  {"EIO"},
}

// each is how many of a thread's calls of a kind are refused, one in a run: the first
// ones, and the last.
const eachCall = 3

// scene is what one program does once, from its start to its end or between two
// moments of a program that stays.
type scene struct {
	name string
	// attach is the process strace watches; nil if it starts argv.
	attach func() int
	ready  func(t *testing.T) // before each run
	// play runs the scene. wrap is what comes before the program's own words.
	play func(t *testing.T, wrap []string) played
	// judge says what is wrong; "" if nothing is.
	judge func(p played, call string) string
	after func(t *testing.T) string // and with the rest of the world
}

type played struct {
	result
	late bool
}

// point is one system call of one thread, refused.
type point struct {
	call, errno string
	nth         int
}

func (p point) String() string { return fmt.Sprintf("%s %d %s", p.call, p.nth, p.errno) }

// TestInject refuses system calls, one in a run: each of a client's session, of serve
// while it starts a jail, of PID 1 while it sets the jail up and while it has a session,
// of jail-keys, and of the verbs. Whatever is refused, who asked has what he asked for or
// one line and its status, nothing is left, and the next one is served.
//
// JAIL_TEST_INJECT=all takes every point and prints a table ("make inject"); a regular
// expression takes the points that it matches, as "scene: call n error". Without it a
// sample is taken.
func TestInject(t *testing.T) {
	in := newInjection(t)
	scenes := in.scenes(t)
	in.settle(t)
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) { in.run(t, s) })
	}
	in.table(t)
}

type injection struct {
	dir    string
	server *server
	take   func(name string, i int, p point) bool
	rows   []row
	before snapshot
	spared map[string]int // what a Go program calls before its main
}

type row struct {
	scene                            string
	points, missed, runtime, unclean int
}

func newInjection(t *testing.T) *injection {
	// strace and what it writes are a login's as well. It is there before all snapshots.
	in := &injection{dir: "/tmp/inject"}
	require.NoError(t, os.Mkdir(in.dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(in.dir) })
	for _, name := range []string{in.trace(), in.output()} {
		require.NoError(t, os.WriteFile(name, nil, 0o666))
		require.NoError(t, os.Chmod(name, 0o666))
	}
	reg := standardRegistry()
	reg.text += fmt.Sprintf("\n[jail.gone]\nrootfs = %q\nusers = [\"spare1\"]\n", jailsDir+"/gone")
	in.server = own(t, reg)
	switch which := os.Getenv("JAIL_TEST_INJECT"); which {
	case "":
		k := 0
		in.take = func(name string, _ int, p point) bool {
			k++
			return k%sample == 0 || found.MatchString(name+": "+p.String())
		}
	case "all":
		in.take = func(string, int, point) bool { return true }
	default:
		re := regexp.MustCompile(which)
		in.take = func(name string, _ int, p point) bool { return re.MatchString(name + ": " + p.String()) }
	}
	in.spared = in.runtimeCalls(t)
	return in
}

// sample is how many points there are for one that "make test" takes.
const sample = 9

// found are points that were not clean once. They are always taken.
var found = regexp.MustCompile(`^(jail-enter, (pipes, warm|files): fstat 1 EIO|jail-enter, terminal: poll 1 ENOMEM|` +
	`serve and PID 1, a start: (clone|socketpair|epoll_ctl) [123] |PID 1, pipes: (setresuid|setgroups|dup3) 1 |PID 1, terminal: setsid 1 )`)

// strace is the beginning of its command line.
func (in *injection) strace(args ...string) []string {
	return append([]string{"strace", "-f", "-b", "execve", "-o", in.trace()}, args...)
}

func (in *injection) trace() string  { return filepath.Join(in.dir, "trace") }
func (in *injection) output() string { return filepath.Join(in.dir, "output") }

// call is a line of strace's: a call's beginning, not the rest of one that was
// interrupted by another thread's.
var callLine = regexp.MustCompile(`(?m)^(\d+) +([a-z0-9_]+)\((.*)$`)

// runtimeCalls counts what a Go program calls that does nothing.
func (in *injection) runtimeCalls(t *testing.T) map[string]int {
	argv := in.strace(argvPath)
	cmd := exec.Command(argv[0], argv[1:]...)
	require.NoError(t, cmd.Run())
	counts := map[string]int{}
	for _, m := range callLine.FindAllStringSubmatch(contents(in.trace()), -1) {
		counts[m[2]]++
	}
	return counts
}

// points reads a recording.
func points(recorded string) []point {
	most := map[string]int{}
	calls := map[[2]string]int{}
	for _, m := range callLine.FindAllStringSubmatch(recorded, -1) {
		key := [2]string{m[1], m[2]}
		calls[key]++
		most[m[2]] = max(most[m[2]], calls[key])
	}
	var all []point
	for _, call := range slices.Sorted(maps.Keys(most)) {
		ns := []int{}
		for n := 1; n <= min(eachCall, most[call]); n++ {
			ns = append(ns, n)
		}
		if most[call] > eachCall {
			ns = append(ns, most[call])
		}
		for _, errno := range faults[call] {
			for _, n := range ns {
				all = append(all, point{call, errno, n})
			}
		}
	}
	return all
}

// byRuntime reports whether it is the Go runtime that has given up, where nothing can be
// done about it: before the main of a program, or in one that does one thing and ends, where
// it makes its poller when first needed, and takes memory. Never in jail-enter, and never
// in serve or in a PID 1 that has been ready.
func (in *injection) byRuntime(s scene, trace, wrong string) bool {
	switch {
	case strings.HasPrefix(s.name, "jail-enter"), strings.Contains(wrong, "panic: "), strings.Contains(wrong, "left:"), strings.Contains(wrong, "afterwards"):
		return false
	case s.attach == nil && (strings.Contains(wrong, `stdout ""`) || strings.Contains(wrong, "netpollBreak")) && runtimeThrow.MatchString(wrong):
		return true // the poller is woken when all has been said, too
	}
	return in.inRuntime(trace)
}

var runtimeThrow = regexp.MustCompile(`status 2, .*fatal error: (runtime: (netpollinit failed|epollctl failed|eventfd failed|cannot allocate memory|netpollBreak|out of memory)|out of memory)`)

// inRuntime reports whether what was refused belongs to the start of a Go program that
// was executed in the scene. jail-enter begins before that (internal/early).
func (in *injection) inRuntime(trace string) bool {
	executed := map[string]bool{}
	count := map[string]int{}
	for _, m := range callLine.FindAllStringSubmatch(trace, -1) {
		pid, call, rest := m[1], m[2], m[3]
		switch call {
		case "execve", "execveat":
			executed[pid] = true
			count[pid] = 0
			continue
		}
		count[pid]++
		if strings.HasSuffix(rest, "(INJECTED)") && executed[pid] && count[pid] <= in.spared[call] {
			return true
		}
	}
	return false
}

func (in *injection) run(t *testing.T, s scene) {
	r := row{scene: s.name}
	recorded := in.record(t, s)
	for i, p := range points(recorded) {
		if !in.take(s.name, i, p) {
			continue
		}
		r.points++
		trace := "trace=" + p.call
		for _, exec := range []string{"execve", "execveat"} {
			if p.call != exec {
				trace += "," + exec
			}
		}
		wrong := in.once(t, s, p.call, "-e", trace, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", p.call, p.errno, p.nth))
		hit := contents(in.trace())
		switch {
		case s.attach != nil && p.call == "fcntl" && !strings.Contains(injected(hit), "F_DUPFD"):
			r.missed++ // flags of a descriptor can be asked for and set, always
			continue
		case !strings.Contains(hit, "(INJECTED)"):
			r.missed++
			if wrong == "" {
				continue
			}
			fallthrough
		default:
			if wrong == "" {
				continue
			}
			if in.byRuntime(s, hit, wrong) {
				r.runtime++
				t.Logf("%s: %s: the runtime: %.200s", s.name, p, wrong)
				continue
			}
			r.unclean++
			t.Errorf("%s: %s: %s\n%s", s.name, p, wrong, injected(hit))
		}
	}
	in.rows = append(in.rows, r)
}

func injected(trace string) string {
	var lines []string
	for line := range strings.Lines(trace) {
		if strings.Contains(line, "(INJECTED)") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(len(lines), 5)], "")
}

// record plays a scene undisturbed.
func (in *injection) record(t *testing.T, s scene) string {
	require.Empty(t, in.once(t, s, ""), "nothing was refused")
	return contents(in.trace())
}

// once plays a scene under strace, and says what went wrong.
func (in *injection) once(t *testing.T, s scene, call string, args ...string) string {
	if s.ready != nil {
		s.ready(t)
	}
	var p played
	if s.attach == nil {
		p = s.play(t, in.strace(args...))
	} else {
		detach := in.attach(t, s.attach(), args)
		p = s.play(t, nil)
		detach()
	}
	var wrong []string
	if p.late {
		wrong = append(wrong, "not over in time")
	}
	if w := s.judge(p, call); w != "" {
		wrong = append(wrong, fmt.Sprintf("%s: status %d, stdout %q, stderr %.600q", w, p.status, p.stdout, p.stderr))
	}
	if s.after != nil {
		if w := s.after(t); w != "" {
			wrong = append(wrong, w)
		}
	}
	if in.server.ended() {
		wrong = append(wrong, "serve has ended: "+world.tail("serve.log", 0))
		in.server.stop()
		require.NoError(t, in.server.start())
		in.settle(t)
		return strings.Join(wrong, "; ")
	}
	if w := in.left(); w != "" {
		wrong = append(wrong, w)
		in.settle(t)
	}
	return strings.Join(wrong, "; ")
}

// settle has both jails run, after a session each, and remembers what there is then.
func (in *injection) settle(t *testing.T) {
	t.Helper()
	for _, a := range []account{centos, work} {
		require.Empty(t, hasSession(t, a))
	}
	in.before = in.snapshot()
}

// snapshot knows serve and PID 1 by their names: they are not always the same.
func (in *injection) snapshot() snapshot {
	s := takeSnapshot()
	maps.DeleteFunc(s.processes, func(_, text string) bool { return ours.MatchString(text) })
	descriptors := map[string]int{}
	for what, n := range s.descriptors {
		descriptors[ours.ReplaceAllString(what, "$1")] = n
	}
	s.descriptors = descriptors
	return s
}

var ours = regexp.MustCompile(`process [0-9]+(?: \(parent [0-9]+\))?: (jail-init: [a-z]+|` + initPath + ` serve)$`)

// left says what there is that was not there before.
func (in *injection) left() string {
	var left []string
	if poll(leaving, func() bool {
		left = in.before.changes(in.snapshot())
		for _, name := range []string{"centos", "debian"} {
			if n := len(jailPIDs(name)); n != 1 {
				left = append(left, fmt.Sprintf("%d of jail %s", n, name))
			}
		}
		return len(left) == 0
	}) {
		return ""
	}
	return "left: " + strings.Join(left, ", ")
}

// attach has strace watch a process until the returned function is called.
func (in *injection) attach(t *testing.T, pid int, args []string) (detach func()) {
	argv := append(in.strace(args...), "-p", strconv.Itoa(pid))
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	eventually(t, "strace watches", func() bool { return strings.Contains(stderr.String(), "attached") })
	return func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(deadline):
			cmd.Process.Kill()
			t.Errorf("strace does not end")
			<-ended
		}
	}
}

func (in *injection) table(t *testing.T) {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "points\tclean\tnot clean\tthe runtime\tnot reached\t  scene")
	var sum row
	for _, r := range append(in.rows, row{scene: "all"}) {
		if r.scene == "all" {
			r = sum
			r.scene = "all"
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t  %s\n", r.points, r.points-r.missed-r.unclean-r.runtime, r.unclean, r.runtime, r.missed, r.scene)
		sum.points, sum.unclean, sum.runtime, sum.missed = sum.points+r.points, sum.unclean+r.unclean, sum.runtime+r.runtime, sum.missed+r.missed
	}
	w.Flush()
	t.Logf("system calls refused:\n%s", b.String())
}

const patience = 40 * time.Second

// timed runs a program to its end, or its patience's.
func timed(t *testing.T, cmd *exec.Cmd) played {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	cmd.WaitDelay = time.Second
	cmd.Dir = "/"
	require.NoError(t, cmd.Start())
	late := false
	guard := time.AfterFunc(patience, func() { late = true; cmd.Process.Kill() })
	err := cmd.Wait()
	guard.Stop()
	p := played{late: late || errors.Is(err, exec.ErrWaitDelay)}
	p.stdout, p.stderr, p.status = stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
	return p
}

// as makes a command of a login's.
func as(a account, env []string, argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + emptyHome, "TERM=xterm"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(a.id), Gid: uint32(a.id)}}
	return cmd
}

// trouble is what no line of ours has, whatever happens.
var trouble = regexp.MustCompile(`goroutine|fatal error|panic|SIG[A-Z]+:|runtime:|<nil>`)

// session judges a client's session: want with status 7, or one line and 125. Where the
// child has failed on its way to the shell, it is the shell's status.
func session(want string, statuses ...int) func(p played, call string) string {
	return func(p played, call string) string {
		all := p.stdout + p.stderr
		switch {
		case trouble.MatchString(all):
			return "a trace"
		case p.status == 7 && p.stdout == want && len(sayings(p.stderr)) <= 1:
			return ""
		case p.status == 7 && len(sayings(p.stderr)) == 1 && strings.Contains(p.stderr, " standard "):
			return "" // what could not be copied is said, and the command has failed anyway
		case p.status == 1 && call == "execve" && p.stdout == "" && len(sayings(p.stderr)) == 1:
			return "" // as sshd has it
		case slices.Contains(append(statuses, 125), p.status):
			n := len(sayings(p.stderr))
			if n == 1 || n == 0 && (call == "write" || call == "writev") && p.stderr == "" {
				return ""
			}
			return "not one line"
		}
		return "neither what was wanted nor a failure of ours"
	}
}

// ourLine is also what sshd would say (session.c:do_child).
var ourLine = regexp.MustCompile(`^(jail-[a-z]+: |Could not chdir to home directory |/bin/sh: )[^\r\n]+\r?$`)

// straceSays is strace's own, where a call it was to refuse had been interrupted.
var straceSays = regexp.MustCompile(`(?m)^strace: Failed to tamper .*\n`)

// sayings are the lines on standard error; nil twice over where one is not ours, so
// that it is never one.
func sayings(text string) []string {
	text = straceSays.ReplaceAllString(text, "")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if text == "" {
		return nil
	}
	for _, line := range lines {
		if !ourLine.MatchString(line) {
			return []string{line, "not ours"}
		}
	}
	return lines
}

// hasSession is whether a login has a session, soon: after a start that has failed a jail
// has a rest.
func hasSession(t *testing.T, a account) string {
	var p played
	if !poll(deadline, func() bool {
		cmd := as(a, nil, enterPath, "-c", "cat; exit 7")
		cmd.Stdin = strings.NewReader("in\n")
		p = timed(t, cmd)
		return p.status == 7 && p.stdout == "in\n" && p.stderr == ""
	}) {
		return fmt.Sprintf("afterwards %s is not served: %+v", a.login, p)
	}
	return ""
}

// atOnce is whether a login has a session without any rest.
func atOnce(t *testing.T, a account) string {
	cmd := as(a, nil, enterPath, "-c", "cat; exit 7")
	cmd.Stdin = strings.NewReader("in\n")
	if p := timed(t, cmd); p.status != 7 || p.stdout != "in\n" || p.stderr != "" {
		return fmt.Sprintf("afterwards %s is not served at once: %+v", a.login, p)
	}
	return ""
}

func halted(t *testing.T, name string) {
	if len(jailPIDs(name)) == 0 {
		return
	}
	require.NoError(t, command(initPath, "stop", name))
	eventually(t, name+" is stopped", func() bool { return len(jailPIDs(name)) == 0 })
}

func (in *injection) scenes(t *testing.T) []scene {
	warm := func(t *testing.T) {
		require.Empty(t, hasSession(t, centos))
		require.Empty(t, hasSession(t, work))
	}
	cold := func(t *testing.T) { halted(t, "centos") }
	both := func(t *testing.T) string {
		if w := atOnce(t, work); w != "" {
			return w
		}
		return hasSession(t, centos)
	}
	pipes := func(t *testing.T, wrap []string) played {
		cmd := as(centos, nil, append(wrap, enterPath, "-c", "cat; exit 7")...)
		cmd.Stdin = strings.NewReader("in\n")
		return timed(t, cmd)
	}
	terminal := func(t *testing.T, wrap []string) played {
		return onTerminal(t, append(wrap, enterPath, "-c", "echo in; exit 7"))
	}
	screenful := func(p played, call string) string {
		if p.status == 129 && call == "write" || p.status == 7 && p.stdout == "" && call == "read" {
			return "" // EIO is how a terminal says that the other end has hung up: nobody is there
		}
		shown := strings.ReplaceAll(p.stdout, "\r\n", "\n")
		p.stdout, p.stderr = "", shown
		if before, after, ok := strings.Cut("\n"+shown, "\nin\n"); ok {
			p.stdout, p.stderr = "in\n", strings.TrimPrefix(before+"\n"+after, "\n")
		}
		return session("in\n", 126, 127)(p, call)
	}
	file := filepath.Join("/tmp", "inject-input")
	require.NoError(t, os.WriteFile(file, []byte("in\n"), 0o644))
	t.Cleanup(func() { os.Remove(file) })
	relayed := func(t *testing.T, wrap []string) played {
		input, err := os.Open(file)
		require.NoError(t, err)
		defer input.Close()
		out, err := os.Create(in.output())
		require.NoError(t, err)
		defer out.Close()
		cmd := as(centos, nil, append(wrap, enterPath, "-c", "cat; exit 7")...)
		cmd.Stdin, cmd.Stdout = input, out
		p := timed(t, cmd)
		p.stdout = contents(out.Name())
		return p
	}
	serves := func() int { return in.server.cmd.Process.Pid }
	pid1 := func() int { return jailPIDs("centos")[0] }
	// Two logins of two jails: neither is to wait for the other.
	starts := func(t *testing.T) { halted(t, "centos"); halted(t, "debian") }
	return []scene{
		{name: "jail-enter, pipes, warm", ready: warm, play: pipes, judge: session("in\n"), after: both},
		{name: "jail-enter, pipes, cold", ready: cold, play: pipes, judge: session("in\n"), after: both},
		{name: "jail-enter, terminal", ready: warm, play: terminal, judge: screenful, after: both},
		{name: "jail-enter, files", ready: warm, play: relayed, judge: session("in\n"), after: both},
		in.agent(t, warm, both),
		{name: "jail-enter, refused", ready: warm, play: func(t *testing.T, wrap []string) played {
			return timed(t, as(spares[0], nil, append(wrap, enterPath, "-c", "echo no")...))
		}, judge: session(""), after: both},
		{name: "jail-enter, waiting", ready: cold, play: func(t *testing.T, wrap []string) played {
			p := in.server.cmd.Process
			p.Signal(syscall.SIGSTOP)
			time.AfterFunc(200*time.Millisecond, func() { p.Signal(syscall.SIGCONT) })
			return pipes(t, wrap)
		}, judge: session("in\n"), after: both},
		{name: "serve and PID 1, a start", attach: serves, ready: starts, play: pipes, judge: session("in\n", 126, 127), after: both},
		{name: "PID 1, pipes", attach: pid1, ready: warm, play: pipes, judge: session("in\n", 126, 127), after: both},
		{name: "PID 1, terminal", attach: pid1, ready: warm, play: terminal, judge: screenful, after: both},
		{name: "jail-keys", ready: warm, play: func(t *testing.T, wrap []string) played {
			words := strings.Fields(contents(keyFile + ".pub"))
			return timed(t, exec.Command("env", append(wrap, keysPath, "--forced", "--", work.login, words[0], words[1])...))
		}, judge: func(p played, call string) string {
			n := len(sayings(p.stderr))
			switch {
			case trouble.MatchString(p.stderr):
				return "a trace"
			case p.status == 0 && (n == 0 || n == 1 && strings.Contains(p.stderr, "only running jails are shown")), p.status == 1 && p.stdout == "" && n == 1:
				return ""
			case p.status == 1 && n == 0 && (call == "write"):
				return ""
			}
			return "neither keys nor one line"
		}, after: both},
		{name: "jail ps", ready: warm, play: verb("ps"), judge: verbs, after: both},
		{name: "jail exec", ready: warm, play: verb("exec", "centos", "sh", "-c", "exit 0"), judge: verbs, after: both},
		{name: "jail stop", ready: warm, play: verb("stop", "centos"), judge: verbs, after: both},
	}
}

func verb(args ...string) func(t *testing.T, wrap []string) played {
	return func(t *testing.T, wrap []string) played {
		return timed(t, exec.Command("env", append(append(wrap, initPath), args...)...))
	}
}

// verbs judges one of an administrator's: it was done, as far as a line says if that is not
// all, or there is a line that says why not.
func verbs(p played, call string) string {
	n := len(sayings(p.stderr))
	switch {
	case trouble.MatchString(p.stderr):
		return "a trace"
	case p.status == 0 && (n == 0 || n == 1 && strings.Contains(p.stderr, "only running jails are shown")), p.status != 0 && p.status != 2 && n >= 1 && p.status > 0:
		return ""
	case p.status > 0 && n == 0 && call == "write":
		return ""
	}
	return "neither done nor a line why not"
}

// agent is a session that asks the agent the client has.
func (in *injection) agent(t *testing.T, warm func(*testing.T), after func(*testing.T) string) scene {
	bring(t, debianRoot, "ssh-add")
	socket := filepath.Join(shortDir(t), "agent")
	require.NoError(t, os.Chmod(filepath.Dir(socket), 0o755))
	require.NoError(t, os.Chown(filepath.Dir(socket), work.id, work.id))
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	require.NoError(t, os.Chown(socket, work.id, work.id))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				question := make([]byte, 256)
				for {
					if _, err := c.Read(question); err != nil {
						return
					}
					// SSH_AGENT_IDENTITIES_ANSWER, none (draft-ietf-sshm-ssh-agent).
					c.Write([]byte{0, 0, 0, 5, 12, 0, 0, 0, 0})
				}
			}()
		}
	}()
	const none = "The agent has no identities.\n"
	return scene{name: "jail-enter, agent", ready: warm, play: func(t *testing.T, wrap []string) played {
		cmd := as(work, []string{"SSH_AUTH_SOCK=" + socket, "SSH_CONNECTION=127.0.0.1 1 127.0.0.1 22"},
			append(wrap, enterPath, "-c", "ssh-add -l 2>&1; cat; exit 7")...)
		cmd.Stdin = strings.NewReader("in\n")
		return timed(t, cmd)
	}, judge: func(p played, call string) string {
		if call != "" {
			// A session is one without its agent, of which ssh-add has its own line.
			if before, ok := strings.CutSuffix(p.stdout, "in\n"); ok && strings.Count(before, "\n") <= 1 {
				p.stdout = "in\n"
			}
			return session("in\n")(p, call)
		}
		return session(none+"in\n")(p, call)
	}, after: after}
}

// onTerminal runs a login's program on a terminal, as its session's leader. What the
// terminal shows is in stdout.
func onTerminal(t *testing.T, argv []string) played {
	t.Helper()
	ptmx, pts, err := pty.Open()
	require.NoError(t, err)
	defer ptmx.Close()
	require.NoError(t, pts.Chown(centos.id, centos.id))
	cmd := as(centos, nil, argv...)
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pts, pts, pts
	shown := make(chan string)
	go func() {
		var b bytes.Buffer
		b.ReadFrom(ptmx)
		shown <- b.String()
	}()
	p := timed(t, cmd)
	pts.Close()
	p.stdout = <-shown
	return p
}

// TestStopLeavesTheSocketsOfServe: serve renews the sockets of a jail that has ended. Who
// has told the jail to end removes none of them, however long that takes him.
func TestStopLeavesTheSocketsOfServe(t *testing.T) {
	own(t, standardRegistry())
	require.Empty(t, hasSession(t, work))
	require.NoError(t, command("strace", "-f", "-o", "/dev/null", "-e", "trace=unlink,unlinkat", "-e", "inject=unlink,unlinkat:delay_enter=300000",
		initPath, "stop", "debian"))
	for _, a := range debianAccounts {
		assert.FileExists(t, socketPath(a))
	}
	assert.Empty(t, hasSession(t, work))
}

// TestNoThreadToBeHad: the machine gives serve neither a process nor a thread, just when
// all jails are wanted at once, with serve hardly begun. Who asks is told, and serve
// lives.
func TestNoThreadToBeHad(t *testing.T) {
	reg := registry{text: "version = 1\n"}
	for _, a := range append([]account{centos}, debianAccounts...) {
		root := filepath.Join(jailsDir, "none-"+a.login)
		require.NoError(t, os.Mkdir(root, 0o755))
		t.Cleanup(func() { require.NoError(t, os.Remove(root)) })
		reg.text += fmt.Sprintf("[jail.%s]\nrootfs = %q\nusers = [%q]\nuid = %d\n", a.login, root, a.login, a.id)
		reg.users = append(reg.users, a)
		reg.jails = append(reg.jails, a.login)
	}
	in := &injection{dir: t.TempDir()}
	s := own(t, reg)
	// Every call takes its time, so that every start has a thread.
	detach := in.attach(t, s.cmd.Process.Pid, []string{"-e", "trace=clone,clone3,openat2,open_tree,mount_setattr,socketpair",
		"-e", "inject=clone,clone3:error=EAGAIN", "-e", "inject=openat2,open_tree,mount_setattr,socketpair:delay_enter=300000"})
	var refused [16]played
	var all sync.WaitGroup
	for i, a := range reg.users {
		all.Go(func() { refused[i] = timed(t, as(a, nil, enterPath, "-c", "exit 7")) })
	}
	all.Wait()
	detach()
	assert.Contains(t, contents(in.trace()), "(INJECTED)")
	for i := range reg.users {
		assert.Equal(t, 125, refused[i].status)
		assert.Regexp(t, `^jail-enter: cannot [^\n]*\n$`, refused[i].stderr)
	}
	require.False(t, s.ended(), "serve has ended")
	assert.Equal(t, "stopped", stateInPS(t, reg.jails[0]))
}
