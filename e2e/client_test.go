package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	machine "jail/internal/needs"
)

// clientRow is one client program, or one use of it, in the matrix of clients,
// root file systems and ways in.
type clientRow struct {
	name  string
	does  string // what is compared, for the document
	tests string // the client as tested: a Debian package, or a Go module
	// scenario uses the client and notes what it learns. What it notes through
	// plain sshd, where all must be well, is what it must note everywhere.
	scenario func(s *site)
	// inside is the program a root file system must have for this; the busybox
	// tree has none of them.
	inside string
	// intended names the difference that a way in makes on purpose, in any tree.
	intended map[door]string
	// block is the line of the block for sshd that must be another for this; the block
	// as it is shipped refuses it.
	block string
	// alone is for what changes the files of a login that other rows use too.
	alone bool
}

// clientRows are the matrix, in the order of the document.
func clientRows() []clientRow {
	return concat(opensshRows(), transferRows(), libraryRows(), toolRows(), terminalRows(), remoteRows())
}

func concat[T any](lists ...[]T) (all []T) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// pending is what does not yet come out as it must, with the reason. Each entry
// is a cell of the matrix, "row/tree/door" without what is any, or a claim of
// another test. An entry that comes out well is an error, so that none stays
// too long, and as long as there are any the document is not written.
var pending = []struct{ what, why string }{}

// isPending reports whether what, or something it is part of, is pending.
func isPending(what string) bool {
	for _, p := range pending {
		if what == p.what || strings.HasPrefix(what, p.what+"/") {
			return true
		}
	}
	return false
}

// claim fails the test unless ok is as it must be: true, or false while that
// is pending.
func claim(t *testing.T, what string, ok bool, format string, args ...any) {
	t.Helper()
	switch {
	case ok && isPending(what):
		t.Errorf("%s is pending no more: take it off the list", what)
	case !ok && isPending(what):
		t.Logf("pending: %s: %s", what, fmt.Sprintf(format, args...))
	case !ok:
		t.Errorf("%s: %s", what, fmt.Sprintf(format, args...))
	}
}

// What may be found of a cell, as the document says it.
const works = "works"

func needs(program string) string      { return "needs `" + program + "` inside" }
func needsLine(line string) string     { return "needs `" + line + "` in the block" }
func differs(difference string) string { return "intended difference: " + difference }

// place is a column of the matrix: a tree and a way in.
type place struct {
	tree string
	door door
}

var (
	oraclePlace = place{"oracle", plain}
	jailPlaces  = []place{
		{"debian", forced}, {"debian", login},
		{"busybox", forced}, {"busybox", login},
	}
	columns = append(slices.Clone(jailPlaces), place{"debian", shipped})
)

func (p place) String() string { return p.tree + "/" + string(p.door) }

func (p place) account() account {
	if p.tree == "busybox" {
		return centos
	}
	return work
}

// root is the place's root file system as the host sees it.
func (p place) root() string {
	switch {
	case p.door == plain:
		return oracleRoot
	case p.tree == "busybox":
		return busyboxRoot
	}
	return debianRoot
}

// expected is what must be found of a row at a place.
func (r clientRow) expected(p place) string {
	if p.tree == "busybox" && r.inside != "" {
		return needs(r.inside)
	}
	if p.door == shipped && r.block != "" {
		return needsLine(r.block)
	}
	if name := r.intended[p.door]; name != "" {
		return differs(name)
	}
	return works
}

// TestClients runs the programs people use through every way in, compares what
// they see with what they see of plain sshd, and the whole with the table in
// docs/compatibility.md.
func TestClients(t *testing.T) {
	standard(t)
	rows := clientRows()
	seen := newNotebook()
	fronts := make(map[place]*front)
	for _, p := range append([]place{oraclePlace}, columns...) {
		fronts[p] = openFront(t, p, nil)
	}
	cell := func(t *testing.T, r clientRow, p place) {
		s := newSite(t, fronts[p], r.name)
		s.play(r.scenario)
		seen.keep(r.name, p, s.notes)
		if p == oraclePlace {
			require.False(t, s.bad, "not well through plain sshd:\n%s", strings.Join(s.notes, "\n"))
		}
	}
	cells := func(t *testing.T, r clientRow, started func(t *testing.T)) {
		for _, p := range append([]place{oraclePlace}, columns...) {
			t.Run(r.name+"/"+p.String(), func(t *testing.T) {
				started(t)
				cell(t, r, p)
			})
		}
	}
	t.Run("side by side", func(t *testing.T) {
		for _, r := range rows {
			if !r.alone && r.scenario != nil {
				cells(t, r, (*testing.T).Parallel)
			}
		}
	})
	t.Run("alone", func(t *testing.T) {
		for _, r := range rows {
			if r.alone && r.scenario != nil {
				cells(t, r, func(*testing.T) {})
			}
		}
	})

	found := make(map[string]map[place]string)
	for _, r := range rows {
		found[r.name] = make(map[place]string)
		for _, p := range columns {
			what := r.name + "/" + p.String()
			if r.scenario == nil {
				claim(t, what, false, "there is no test")
				continue
			}
			want, got := seen.of(r.name, oraclePlace), seen.of(r.name, p)
			if want == nil || got == nil {
				continue // -run chose others
			}
			f, detail := findingOf(r, p, want, got)
			found[r.name][p] = f
			claim(t, what, f == r.expected(p), "found %q, expected %q\n%s", f, r.expected(p), detail)
		}
	}
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // not all were run
	}
	checkDocument(t, rows, found)
}

var notFound = regexp.MustCompile(`([\w/.-]+): (?:command )?not found`)

// findingOf says what a cell's notes come to beside those of plain sshd, and
// shows where they part.
func findingOf(r clientRow, p place, want, got []string) (finding, detail string) {
	wanted, have := strings.Join(want, "\n"), strings.Join(got, "\n")
	if wanted == have {
		return works, ""
	}
	if p.door == shipped && r.block != "" {
		// That it is this line is what the other block's column shows.
		return needsLine(r.block), ""
	}
	if name := r.intended[p.door]; name != "" {
		diff := differences[name]
		if diff.plain(wanted) == diff.jail(have) {
			return differs(name), ""
		}
	}
	// The scenario ends where a program is missing.
	if m := notFound.FindStringSubmatch(got[len(got)-1]); m != nil {
		return needs(filepath.Base(m[1])), got[len(got)-1]
	}
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	return "broken", fmt.Sprintf("plain sshd:\n\t%s\nhere:\n\t%s", line(want, i), line(got, i)+"\n\t"+line(got, i+1))
}

func line(notes []string, i int) string {
	if i < len(notes) {
		return notes[i]
	}
	return "(nothing more)"
}

// notebook has the notes of all cells.
type notebook struct {
	mu    sync.Mutex
	notes map[string][]string
}

func newNotebook() *notebook { return &notebook{notes: make(map[string][]string)} }

func (n *notebook) keep(row string, p place, notes []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes[row+"/"+p.String()] = notes
}

func (n *notebook) of(row string, p place) []string { return n.notes[row+"/"+p.String()] }

// front is an sshd on a port of the loopback device: one process for each
// connection, as inetd would start it.
type front struct {
	place
	port int
}

// openFront listens for a place until the test ends. Its sshd reads the
// place's usual configuration, after edit if there is one.
func openFront(t *testing.T, p place, edit func(config string) string) *front {
	t.Helper()
	text := contents(sshdConfig(p.door))
	if p.door == plain {
		// The oracle's own keys count, as those in the jail do through jail-keys.
		text = strings.ReplaceAll(text, extraKeys, extraKeys+" "+filepath.Join(oracleRoot, work.home, ".ssh/authorized_keys"))
	}
	if edit != nil {
		text = edit(text)
	}
	config := filepath.Join(t.TempDir(), "sshd_config")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	argv := sshd(p.door, world.scratch)
	for i, arg := range argv {
		if arg == sshdConfig(p.door) {
			argv[i] = config
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			file, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				t.Errorf("front of %s: %v", p, err)
				continue
			}
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Stdin, cmd.Stdout = file, file
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
			if err := cmd.Start(); err != nil {
				t.Errorf("front of %s: %v", p, err)
			} else {
				served.Go(func() { cmd.Wait() })
			}
			file.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	return &front{place: p, port: l.Addr().(*net.TCPAddr).Port}
}

// site is a client in front of one place.
type site struct {
	*front
	t      *testing.T
	dir    string // the client's home, empty but for what it needs to connect
	config string // of ssh, with the host "host"
	far    string // a directory in the login's home, by its path from there
	there  string // the same directory as the host sees it
	notes  []string
	bad    bool // something noted is not well whatever plain sshd says
}

// newSite makes the directories of a client at both ends, which end with the
// test.
func newSite(t *testing.T, f *front, name string) *site {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(world.scratch, "tmp"), "c")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	far := "client-" + regexp.MustCompile(`\W+`).ReplaceAllString(name, "-") + "-" + string(f.door)
	s := &site{front: f, t: t, dir: dir, far: far, there: filepath.Join(f.root(), f.account().home, far)}
	require.NoError(t, os.Mkdir(s.there, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(s.there)) })
	require.NoError(t, os.Chown(s.there, f.account().id, f.account().id))
	require.NoError(t, os.Mkdir(filepath.Join(dir, ".ssh"), 0o700))
	_, hostKey, _ := strings.Cut(contents(sshDir+"/known_hosts"), " ")
	known := fmt.Sprintf("[127.0.0.1]:%d %s127.0.0.1 %s", f.port, hostKey, hostKey) // not everybody knows patterns
	require.NoError(t, os.WriteFile(filepath.Join(dir, ".ssh/known_hosts"), []byte(known), 0o600))
	s.config = s.writeConfig("config", keyFile)
	return s
}

// user is the login to name to this place's sshd.
func (s *site) user() string { return s.door.user(s.account()) }

// writeConfig makes a configuration of ssh that logs in with that key.
func (s *site) writeConfig(name, identity string, lines ...string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	text := fmt.Sprintf(`Host host
	HostName 127.0.0.1
	Port %d
	User %s
	%s
Host *
	IdentityFile %s
	IdentitiesOnly yes
	UserKnownHostsFile %s/known_hosts
	GlobalKnownHostsFile none
	BatchMode yes
	LogLevel ERROR
	SendEnv LANG LC_* COLORTERM GIT_PROTOCOL
`, s.port, s.user(), strings.Join(lines, "\n\t"), identity, sshDir)
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// stopped ends a scenario early.
type stopped struct{}

// play runs a scenario, to the end or to where it cannot go on.
func (s *site) play(scenario func(*site)) {
	defer func() {
		if r := recover(); r != nil && r != any(stopped{}) {
			panic(r)
		}
	}()
	scenario(s)
}

// note adds a line to what was learnt.
func (s *site) note(format string, args ...any) {
	s.notes = append(s.notes, s.tidy(fmt.Sprintf(format, args...)))
}

// tidy takes out of a text what is different at every place.
func (s *site) tidy(text string) string {
	return strings.NewReplacer(s.dir, "DIR", s.far, "FAR", s.user()+"@", "LOGIN@", strconv.Quote(s.user()), "LOGIN", strconv.Itoa(s.port), "PORT").Replace(text)
}

// equal notes whether something is as it must be.
func (s *site) equal(what, want, got string) {
	if want == got {
		s.note("%s: as it must be", what)
		return
	}
	s.bad = true
	s.note("%s:\n\twant %.4000s\n\tgot  %.4000s", what, want, got)
}

// client is a command of the client's side.
func (s *site) client(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C.UTF-8", "TERM=xterm"}
	return cmd
}

// ssh is OpenSSH's client on its way to this place.
func (s *site) ssh(args ...string) *exec.Cmd {
	return s.client("ssh", append([]string{"-F", s.config, "host"}, args...)...)
}

// run runs a client to its end and notes what it printed and how it ended.
func (s *site) run(what string, cmd *exec.Cmd, stdin string) result {
	s.t.Helper()
	r := runCommand(s.t, cmd, strings.NewReader(stdin))
	s.note("%s: status %d, stdout %s, stderr %s", what, r.status, s.brief(r.stdout), s.brief(r.stderr))
	return r
}

// runSorted is run for output in the order of a directory, which is nobody's.
func (s *site) runSorted(what string, cmd *exec.Cmd, stdin string) result {
	s.t.Helper()
	r := runCommand(s.t, cmd, strings.NewReader(stdin))
	s.note("%s: status %d, stdout %q, stderr %s", what, r.status, sortedLines(s.tidy(r.stdout)), s.brief(r.stderr))
	return r
}

// brief is a text to compare, or for a long one, its sum.
func (s *site) brief(text string) string {
	if len(text) > 4000 {
		return fmt.Sprintf("%d bytes, SHA-256 %s", len(text), sum(strings.NewReader(text)))
	}
	return strconv.Quote(s.tidy(text))
}

// must is run for a step without which there is no next one.
func (s *site) must(what string, cmd *exec.Cmd, stdin string) result {
	s.t.Helper()
	r := s.run(what, cmd, stdin)
	if r.status != 0 {
		s.stop()
	}
	return r
}

// stop ends the scenario as one that is not well.
func (s *site) stop() {
	s.bad = true
	panic(stopped{})
}

// local is a path of the client's.
func (s *site) local(name string) string { return filepath.Join(s.dir, name) }

// remote is the host's view of a path in the far directory.
func (s *site) remote(name string) string { return filepath.Join(s.there, name) }

// keyFiles guards the files that newKey changes.
var keyFiles sync.Mutex

// newKey makes a key and, with options before it, a line for it: in the jail
// for jail-keys to find, elsewhere in an administrator's file.
func (s *site) newKey(options string) (identity string) {
	return s.newKeyOf(options, "-t", "ed25519")
}

// newKeyOf is newKey for a key as the arguments of ssh-keygen say.
func (s *site) newKeyOf(options string, kind ...string) (identity string) {
	s.t.Helper()
	identity = s.local("key")
	require.NoError(s.t, command("ssh-keygen", append([]string{"-q", "-N", "", "-C", "", "-f", identity}, kind...)...))
	line := strings.TrimSpace(options+" "+contents(identity+".pub")) + "\n"
	file := extraKeys
	if s.door.keysInside() {
		file = filepath.Join(s.root(), s.account().home, ".ssh/authorized_keys")
	}
	// By renaming, since a login may be reading it.
	change := func(text string) {
		keyFiles.Lock()
		defer keyFiles.Unlock()
		s.t.Helper()
		text = strings.ReplaceAll(contents(file), line, "") + text
		if text == "" {
			require.NoError(s.t, os.Remove(file))
			return
		}
		mode := os.FileMode(0o644)
		if s.door.keysInside() {
			mode = 0o600
		}
		require.NoError(s.t, os.WriteFile(file+".new", []byte(text), mode))
		if s.door.keysInside() {
			require.NoError(s.t, os.Chown(file+".new", s.account().id, s.account().id))
		}
		require.NoError(s.t, os.Rename(file+".new", file))
	}
	change(line)
	s.t.Cleanup(func() { change("") })
	return identity
}

// background is a client that goes on while others do something.
type background struct {
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan error
}

// start starts a client that the test ends, at the latest.
func (s *site) start(cmd *exec.Cmd) *background {
	s.t.Helper()
	b := &background{cmd: cmd, ended: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &b.stdout, &b.stderr
	cmd.WaitDelay = deadline
	require.NoError(s.t, cmd.Start(), "%v", cmd.Args)
	done := make(chan struct{})
	go func() {
		b.ended <- cmd.Wait()
		close(done)
	}()
	s.t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
	})
	return b
}

// gone reports whether the client has ended.
func (b *background) gone() bool { return len(b.ended) > 0 }

// await waits until cond holds, and stops the scenario if it never does.
func (s *site) await(what string, cond func() bool) {
	s.t.Helper()
	if !poll(deadline, cond) {
		s.note("waited in vain: %s", what)
		s.stop()
	}
}

// quietPort is a port of the loopback device that nobody listens on. It is none
// of those that connections get.
func quietPort(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		ports.next++
		port := 20000 + (ports.first+ports.next)%10000
		if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// ports begins anywhere: another run on the machine, whose process has the same number in its
// namespace, is not to try the same ones at the same time.
var ports = struct {
	sync.Mutex
	first, next int
}{first: rand.IntN(10000)}

// documentPath is from the package's directory, whatever is mounted over it.
const documentPath = "../docs/compatibility.md"

// checkDocument compares what was found with the document, or writes it.
func checkDocument(t *testing.T, rows []clientRow, found map[string]map[place]string) {
	t.Helper()
	if os.Getenv("JAIL_TEST_UPDATE") == "1" {
		require.False(t, t.Failed(), "the document is written only when all is as it must be")
		require.Empty(t, pending, "the document is written only when nothing is pending")
		require.NoError(t, os.WriteFile(documentPath, []byte(document(rows, found, versionOf)), 0o644))
		return
	}
	if len(pending) > 0 {
		t.Logf("so far:\n%s", document(rows, found, versionOf))
	}
	committed, err := os.ReadFile(documentPath)
	if errors.Is(err, os.ErrNotExist) && len(pending) > 0 {
		return // it is written when nothing is pending
	}
	require.NoError(t, err)
	want := document(rows, found, func(string) string { return "" })
	machine.Page{Path: documentPath + " (JAIL_TEST_UPDATE=1 writes it)", Text: withoutVersions(string(committed))}.Is(t, withoutVersions(want))
}

var tableLine = regexp.MustCompile(`(?m)^(\| [^|]+ )\|[^|]*\|`)

// withoutVersions empties the second column of the tables.
func withoutVersions(text string) string { return tableLine.ReplaceAllString(text, "$1||") }

func document(rows []clientRow, found map[string]map[place]string, version func(string) string) string {
	var b bytes.Buffer
	b.WriteString(`# Compatibility

What clients meet in a jail, beside what they meet on plain sshd. This page is written by the test that ran
them, ` + "`TestClients`" + ` in ` + "`e2e`" + `, and every run of the tests compares it with what it finds.

*works*: the client sees what it sees of plain sshd, in files, output, status and errors. *needs X inside*: so it
is with X in the jail; without, the client is told by the jail's shell that X was not found. The trees are a Debian 12 with these
programs, and busybox with nothing else. *ForceCommand* is the block for sshd of the manual with ` + "`AllowTcpForwarding yes`" + `
and ` + "`jail-keys --forced`" + `; *login shell* is no block at all, with keys of the administrator's; *as shipped* is the block that is
installed, to the letter, on the Debian tree. Agent and X11 forwarding, which plain sshd serves from outside a chroot,
are compared with nothing; ` + "`TestCase47Agent`" + ` and ` + "`TestX11`" + ` show them.

| client | tested | Debian, ForceCommand | Debian, login shell | busybox, ForceCommand | busybox, login shell | as shipped |
|---|---|---|---|---|---|---|
`)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.name, version(r.tests))
		for _, p := range columns {
			fmt.Fprintf(&b, " %s |", found[r.name][p])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Intended differences\n\n")
	for _, name := range slices.Sorted(maps.Keys(differences)) {
		if reason := differences[name].reason; !strings.HasPrefix(reason, "as ") {
			fmt.Fprintf(&b, "* *%s*: %s.\n", name, reason)
		}
	}
	b.WriteString("\n## What was compared\n\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "* *%s*: %s.\n", r.name, r.does)
	}
	b.WriteString(everydayTable())
	return b.String()
}

// versionOf is the version of a Debian package of this machine, of a module of
// node.js, or of a module of the tests.
func versionOf(tested string) string {
	if out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", tested).Output(); err == nil {
		version := string(out)
		if _, after, ok := strings.Cut(version, ":"); ok {
			version = after
		}
		return tested + " " + version
	}
	var module struct{ Version string }
	if text, err := os.ReadFile(filepath.Join(npmDir(), tested, "package.json")); err == nil && json.Unmarshal(text, &module) == nil {
		return tested + " " + module.Version
	}
	for line := range strings.Lines(contents("../go.mod")) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == tested {
			return tested + " " + fields[1]
		}
	}
	return tested
}
