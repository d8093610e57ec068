package wire

import (
	"bytes"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

func sampleRequest() *Request {
	return &Request{
		Flags:   FlagLogin | FlagForced,
		Stdio:   [3]Stdio{StdioPassed, StdioTTY, StdioNull},
		Winsize: Winsize{24, 80, 640, 480},
		Termios: Termios{Iflag: 1, Oflag: 2, Cflag: 3, Lflag: 4, Line: 5, CC: [NCCS]uint8{6, 7}, Ispeed: 8, Ospeed: 9},
		Args:    [][]byte{[]byte("-c"), []byte("echo \xff\n'$x'"), {}},
		Env:     [][]byte{[]byte("LANG=C"), []byte("TERM=")},
		Auth:    [][]byte{[]byte("publickey ssh-ed25519 AAAA")},
	}
}

func sampleX11() *Request {
	r := sampleRequest()
	r.Flags |= FlagX11 | FlagAgent
	r.Display, r.Cookie = []byte("localhost:10.0"), []byte("\x00\x01\xff")
	return r
}

func TestDisplayRoundTrip(t *testing.T) {
	want := sampleX11()
	p, err := AppendRequest(nil, want)
	require.NoError(t, err)
	var got Request
	require.NoError(t, DecodeRequest(p, &got))
	assert.Equal(t, *want, got)

	without, err := AppendRequest(nil, sampleRequest())
	require.NoError(t, err)
	require.NoError(t, DecodeRequest(without, &got))
	assert.Empty(t, got.Display, "nothing is left of the request before")

	tail := len(p) - len(want.Cookie) - 1
	for claim, bad := range map[string][]byte{
		"no display":              without,
		"no cookie":               p[:tail],
		"half a cookie":           p[:len(p)-1],
		"a cookie over the limit": append(append(bytes.Clone(p[:tail]), MaxCookie+1), make([]byte, MaxCookie+1)...),
	} {
		bad = bytes.Clone(bad)
		bad[2] |= byte(FlagX11)
		assert.ErrorIs(t, DecodeRequest(bad, &got), ErrMalformed, claim)
	}
	for claim, r := range map[string]*Request{
		"a long display": {Flags: FlagX11, Display: make([]byte, MaxDisplay+1)},
		"a long cookie":  {Flags: FlagX11, Cookie: make([]byte, MaxCookie+1)},
	} {
		_, err := AppendRequest(nil, r)
		assert.ErrorIs(t, err, ErrTooLong, claim)
	}
}

func TestRequestRoundTrip(t *testing.T) {
	want := sampleRequest()
	p, err := AppendRequest(nil, want)
	require.NoError(t, err)
	var got Request
	require.NoError(t, DecodeRequest(p, &got))
	assert.Equal(t, *want, got)
	assert.Equal(t, 1, got.FDs())
	assert.True(t, got.TTY())
	for _, s := range append(got.Args, got.Env...) {
		assert.Zero(t, s[:len(s)+1][len(s)], "a string is followed by NUL, for execve")
	}
}

func TestMalformedRequestIsRefused(t *testing.T) {
	good, err := AppendRequest(nil, sampleRequest())
	require.NoError(t, err)
	change := func(at int, b byte) []byte {
		p := bytes.Clone(good)
		p[at] = b
		return p
	}
	for claim, c := range map[string]struct {
		packet []byte
		err    error
	}{
		"nothing":                       {nil, ErrMalformed},
		"half a header":                 {good[:2], ErrMalformed},
		"another version":               {change(0, Version+1), ErrVersion},
		"another type":                  {change(1, byte(TypeStarted)), ErrMalformed},
		"an unknown flag":               {change(2, 0x80), ErrMalformed},
		"an unknown kind of descriptor": {change(4, 3), ErrMalformed},
		"padding that is not zero":      {change(7, 1), ErrMalformed},
		"one byte too few":              {good[:len(good)-1], ErrMalformed},
		"one byte too many":             {append(bytes.Clone(good), 0), ErrMalformed},
		"more arguments than announced": {change(HeaderLen+4+8+44, 1), ErrMalformed},
		"fewer arguments":               {change(HeaderLen+4+8+44, 9), ErrMalformed},
		"too many arguments":            {change(HeaderLen+4+8+44+1, 0xff), ErrMalformed},
		"too many variables":            {change(HeaderLen+4+8+44+3, 0xff), ErrMalformed},
		"a NUL inside a string":         {bytes.Replace(good, []byte("echo"), []byte("ec\x00o"), 1), ErrMalformed},
		"a string without its NUL":      {bytes.Replace(good, []byte("-c\x00"), []byte("-cx"), 1), ErrMalformed},
		"a string longer than the rest": {bytes.Replace(good, []byte{2, 0, 0, 0, '-'}, []byte{2, 0, 0, 1, '-'}, 1), ErrMalformed},
		"a length that overflows":       {bytes.Replace(good, []byte{2, 0, 0, 0, '-'}, []byte{0xff, 0xff, 0xff, 0xff, '-'}, 1), ErrMalformed},
		"a packet over the limit":       {make([]byte, MaxPacket+1), ErrMalformed},
	} {
		var r Request
		assert.ErrorIs(t, DecodeRequest(c.packet, &r), c.err, claim)
	}
}

func TestRequestOverALimitIsNotEncoded(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxString+1)
	for claim, r := range map[string]*Request{
		"an argument over MAX_ARG_STRLEN": {Args: [][]byte{long}},
		"a variable over MAX_ARG_STRLEN":  {Env: [][]byte{long}},
		"too many arguments":              {Args: make([][]byte, MaxArgs+1)},
		"too many variables":              {Env: make([][]byte, MaxEnv+1)},
		"too much in all":                 {Args: [][]byte{long[1:], long[1:], long[1:]}},
	} {
		_, err := AppendRequest(nil, r)
		assert.ErrorIs(t, err, ErrTooLong, claim)
	}
	_, err := AppendRequest(nil, &Request{Args: [][]byte{long[1:], long[1:]}})
	assert.NoError(t, err, "two arguments of the largest size fit")
}

func TestOtherMessagesRoundTrip(t *testing.T) {
	body := func(p []byte, want Type) []byte {
		typ, _, b, err := Header(p)
		require.NoError(t, err)
		require.Equal(t, want, typ)
		return b
	}
	for _, flags := range []uint16{0, FlagAgentFD, FlagWatch, FlagAgentFD | FlagWatch} {
		p := AppendStarted(nil, Started{7, flags})
		_, got, _, err := Header(p)
		require.NoError(t, err)
		st, err := DecodeStarted(got, body(p, TypeStarted))
		require.NoError(t, err)
		assert.Equal(t, Started{7, flags}, st)
	}
	_, err := DecodeStarted(4, []byte{7, 0, 0, 0})
	assert.ErrorIs(t, err, ErrMalformed, "an unknown flag")
	assert.Empty(t, body(AppendDisconnected(nil), TypeDisconnected))
	for _, e := range []Exited{{Code: 255}, {Signal: 9}, {Signal: 64}, {Signal: 9, OutOfMemory: true}, {Code: 137, OutOfMemory: true}, {Signal: 15, Ending: true}} {
		p := AppendExited(nil, e)
		_, flags, _, err := Header(p)
		require.NoError(t, err)
		got, err := DecodeExited(flags, body(p, TypeExited))
		require.NoError(t, err)
		assert.Equal(t, e, got)
	}
	r := Refused{Status: 125, ID: "abcdefgh", Text: "no\x1b[31m"}
	gotR, err := DecodeRefused(body(AppendRefused(nil, r), TypeRefused))
	require.NoError(t, err)
	assert.Equal(t, r, gotR)
	long := AppendRefused(nil, Refused{Text: strings.Repeat("x", 9999) + "\x00", ID: "more than eight"})
	gotR, err = DecodeRefused(body(long, TypeRefused))
	require.NoError(t, err)
	assert.Len(t, gotR.Text, MaxText)
	assert.Len(t, gotR.ID, IDLen)
	sig, err := DecodeSignal(body(AppendSignal(nil, Signal{15}), TypeSignal))
	require.NoError(t, err)
	assert.Equal(t, Signal{15}, sig)

	id := Identity{HostUID: 1, UID: 2, GID: 3, HasGID: true, Name: "bob", Home: "/home/bob", Shell: "/bin/zsh"}
	gotID, err := DecodeAddLogin(body(AppendAddLogin(nil, &id), TypeAddLogin))
	require.NoError(t, err)
	assert.Equal(t, id, gotID)
	s := &Setup{
		Name: "n", Hostname: "h", Dev: 1 << 40, Ino: 2, Userns: true, ContainerRoot: true, Landlock: 7,
		IdleMillis: 900_000, PtyMax: 256, HardFiles: 1 << 20, Env: []string{"A=b"},
		Mounts: []Mount{{Target: "/t", ReadOnly: true}, {Target: "/u", Source: "/s"}}, Logins: []Identity{id},
		SFTP: 2, SFTPServer: SFTPServerTree,
		X11: true, OnDisconnect: DisconnectKeep,
		EnvAccept: []string{"FOO", "BAR_*"}, Resolver: ResolverTree, ResolverPath: "/r",
		Zone: "Europe/Paris", ZoneRule: "CET-1CEST,M3.5.0,M10.5.0/3", ZoneSum: 1 << 63,
		Keys:   KeysAnywhere,
		Locked: true, Devices: true, Complete: true, MemoryEvents: true,
	}
	p, err := AppendSetup(nil, s)
	require.NoError(t, err)
	gotS, err := DecodeSetup(body(p, TypeSetup))
	require.NoError(t, err)
	assert.Equal(t, s, gotS)
	all := &Descriptors{Rootfs: 3, Control: 4, Mounts: []int{5}, Logins: []int{6}, SFTP: 7, Resolver: 8, Lock: 9, Devices: 10, Memory: 11}
	fds, err := s.List(all)
	require.NoError(t, err)
	assert.Equal(t, []int{3, 4, 5, 6, 7, 8, 9, 10, 11}, fds)
	got, err := gotS.Assign(fds)
	require.NoError(t, err)
	assert.Equal(t, all, got, "each has the name it was sent with")
	for claim, wrong := range map[string][]int{"one too few": fds[1:], "one too many": append(fds, 11), "none": nil} {
		_, err = gotS.Assign(wrong)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	for claim, spoil := range map[string]func(d *Descriptors){
		"no rootfs": func(d *Descriptors) { d.Rootfs = -1 }, "no control socket": func(d *Descriptors) { d.Control = -1 },
		"no lock": func(d *Descriptors) { d.Lock = -1 }, "no /dev": func(d *Descriptors) { d.Devices = -1 }, "no memory.events": func(d *Descriptors) { d.Memory = -1 }, "a mount is missing": func(d *Descriptors) { d.Mounts = nil },
		"a login too many": func(d *Descriptors) { d.Logins = []int{6, 6} },
	} {
		d := *all
		spoil(&d)
		_, err = s.List(&d)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	s.SFTPServer, s.SFTPPath = SFTPServerPath, "/usr/lib/jail/sftp-server"
	p, err = AppendSetup(nil, s)
	require.NoError(t, err)
	gotS, err = DecodeSetup(body(p, TypeSetup))
	require.NoError(t, err)
	assert.Equal(t, s, gotS)
	fds, err = gotS.List(all)
	require.NoError(t, err)
	assert.Equal(t, []int{3, 4, 5, 6, 8, 9, 10, 11}, fds, "PID 1 opens the sftp server itself")
	own := &Setup{OwnRoot: true, Entries: []Entry{
		{Kind: EntryDir, Path: "/run/user/5", Mode: 0o700, UID: 5, GID: 6}, {Kind: EntryLink, Path: "/bin", Text: "usr/bin"},
		{Kind: EntryTmpfs, Path: "/tmp", Mode: 0o1777, Bytes: 1 << 33}, {Kind: EntryHide, Path: "/usr/src"},
	}}
	p, err = AppendSetup(nil, own)
	require.NoError(t, err)
	gotS, err = DecodeSetup(body(p, TypeSetup))
	require.NoError(t, err)
	assert.Equal(t, own, gotS)
	fds, err = gotS.List(&Descriptors{Rootfs: -1, Control: 4})
	require.NoError(t, err)
	assert.Equal(t, []int{4}, fds, "no rootfs travels with what PID 1 makes itself")
	for claim, odd := range map[string]Setup{
		"two roots":                    {OwnRoot: true, Rootfs: "/r"},
		"entries in a rootfs":          {Entries: make([]Entry, 1)},
		"an unknown entry":             {OwnRoot: true, Entries: []Entry{{Kind: EntryHide + 1}}},
		"an unknown way to serve sftp": {SFTP: 4},
		"an unknown source":            {SFTPServer: 3},
		"a path nobody asked for":      {SFTPPath: "/x"},
		"no path":                      {SFTPServer: SFTPServerPath},
		"keys somewhere else":          {Keys: 2},
		"an unknown fresh directory":   {Fresh: freshAll + 1},
	} {
		p, err := AppendSetup(nil, &odd)
		require.NoError(t, err)
		_, err = DecodeSetup(body(p, TypeSetup))
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	for _, build := range []string{"", "x", strings.Repeat("x", MaxBuild)} {
		status := Status{Name: "n", Sessions: 3, Served: 1 << 33, Processes: true, Build: build}
		gotStatus, err := DecodeStatus(body(AppendStatus(nil, &status), TypeStatus))
		require.NoError(t, err)
		assert.Equal(t, status, gotStatus)
	}
	_, err = DecodeStatus(body(AppendStatus(nil, &Status{Name: "n", Build: strings.Repeat("x", MaxBuild+1)}), TypeStatus))
	assert.ErrorIs(t, err, ErrMalformed)
	_, err = DecodeStatus(putString(body(AppendStatus(nil, &Status{Name: "n"}), TypeStatus), ""))
	assert.ErrorIs(t, err, ErrMalformed, "what decodes has one encoding")
}

func TestService(t *testing.T) {
	id := Identity{UID: ByName, Name: "www-data", Shell: "/usr/sbin/nginx"}
	for claim, name := range map[string]string{"short": "a", "the longest": string(long(MaxService))} {
		typ, flags, body, err := Header(AppendService(nil, &Service{Name: name, As: id}, FlagFind))
		require.NoError(t, err)
		assert.Equal(t, TypeService, typ)
		assert.Equal(t, FlagFind, flags)
		got, err := DecodeService(body)
		require.NoError(t, err, claim)
		assert.Equal(t, Service{Name: name, As: id}, got)
	}
	for claim, p := range map[string][]byte{
		"no name":           AppendService(nil, &Service{As: id}, 0),
		"a name too long":   AppendService(nil, &Service{Name: string(long(MaxService + 1)), As: id}, 0),
		"something behind":  append(AppendService(nil, &Service{Name: "a", As: id}, 0), 0),
		"no identity in it": putString(header(nil, TypeService, 0), "a"),
	} {
		_, err := DecodeService(p[HeaderLen:])
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}

func TestSessions(t *testing.T) {
	most := SessionLimits{Max: 1<<32 - 1, PerMinute: 7, SetUmask: true, Umask: 0o777, Nice: 19, Rlimits: make([]Rlimit, MaxRlimits)}
	most.Rlimits[3] = Rlimit{MaxRlimits - 1, 1<<64 - 1}
	for _, want := range []SessionLimits{{}, most} {
		typ, _, body, err := Header(AppendSessions(nil, &want))
		require.NoError(t, err)
		assert.Equal(t, TypeSessions, typ)
		got, err := DecodeSessions(body)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for claim, bad := range map[string]SessionLimits{
		"a umask of more than modes": {SetUmask: true, Umask: 0o1000}, "too nice": {Nice: 20}, "a resource there is not": {Rlimits: []Rlimit{{MaxRlimits, 1}}},
		"more limits than resources": {Rlimits: make([]Rlimit, MaxRlimits+1)},
	} {
		_, err := DecodeSessions(AppendSessions(nil, &bad)[HeaderLen:])
		assert.ErrorIs(t, err, ErrMalformed, claim)
		p, err := AppendSetup(nil, &Setup{Sessions: bad})
		require.NoError(t, err)
		_, err = DecodeSetup(p[HeaderLen:])
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	p, err := AppendSetup(nil, &Setup{Sessions: most})
	require.NoError(t, err)
	got, err := DecodeSetup(p[HeaderLen:])
	require.NoError(t, err)
	assert.Equal(t, most, got.Sessions)
}

func TestStart(t *testing.T) {
	name := strings.Repeat("x", MaxService)
	typ, _, body, err := Header(AppendStart(nil, name))
	require.NoError(t, err)
	assert.Equal(t, TypeStart, typ)
	got, err := DecodeStart(body)
	require.NoError(t, err)
	assert.Equal(t, name, got)
	for claim, bad := range map[string]string{"no name": "", "a name too long": name + "x"} {
		_, _, body, err := Header(AppendStart(nil, bad))
		require.NoError(t, err)
		_, err = DecodeStart(body)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	_, err = DecodeStart(append(body, 0))
	assert.ErrorIs(t, err, ErrMalformed)
}

func TestLimit(t *testing.T) {
	good := Limit{Jail: strings.Repeat("x", MaxService), What: limitAll, Memory: 1 << 62, CPU: 1 << 31, Pids: 1, IOWeight: 10_000}
	typ, _, body, err := Header(AppendLimit(nil, &good))
	require.NoError(t, err)
	assert.Equal(t, TypeLimit, typ)
	got, err := DecodeLimit(body)
	require.NoError(t, err)
	assert.Equal(t, good, got)
	for claim, bad := range map[string]Limit{
		"nothing": {Jail: "x"}, "an unknown limit": {Jail: "x", What: limitAll + 1}, "a name too long": {Jail: strings.Repeat("x", MaxService+1), What: LimitCPU},
	} {
		_, err := DecodeLimit(AppendLimit(nil, &bad)[HeaderLen:])
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	before := Limit{Jail: "x", What: LimitCPU, CPU: 50}
	_, _, short, err := Header(AppendLimit(nil, &before))
	require.NoError(t, err)
	assert.Len(t, short, 4+1+1+1+8+4+4, "as a serve of before knows it")
	_, err = DecodeLimit(append(body, 0))
	assert.ErrorIs(t, err, ErrMalformed, "something behind")
}

func TestVerdict(t *testing.T) {
	for _, v := range []uint8{VerdictTaken, VerdictNone, VerdictFaults} {
		typ, _, body, err := Header(AppendVerdict(nil, v))
		require.NoError(t, err)
		assert.Equal(t, TypeVerdict, typ)
		got, err := DecodeVerdict(body)
		require.NoError(t, err)
		assert.Equal(t, v, got)
	}
	for claim, b := range map[string][]byte{"no value": {}, "an unknown one": {VerdictFaults + 1}, "too long": {0, 0}} {
		_, err := DecodeVerdict(b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}

func TestImpossibleEndIsRefused(t *testing.T) {
	for claim, b := range map[string][]byte{
		"a signal there is not": {65, 0},
		"a signal and a status": {9, 1},
		"too short":             {9},
		"too long":              {9, 0, 0},
		"a signal that stops":   {19, 0},
		"one that does nothing": {17, 0},
	} {
		_, err := DecodeExited(0, b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	_, err := DecodeExited(4, []byte{9, 0})
	assert.ErrorIs(t, err, ErrMalformed, "an unknown flag")
	for _, n := range []byte{0, 17, 19, 64, 255} {
		_, err := DecodeSignal([]byte{n})
		assert.ErrorIs(t, err, ErrMalformed, "signal %d is not for a client to send", n)
	}
}

// numbers are the constants of this package whose names are prefix and another name, by that name.
func numbers(t *testing.T, prefix string) map[string]int64 {
	t.Helper()
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var files []*ast.File
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(fset, name, nil, 0)
			require.NoError(t, err)
			files = append(files, f)
		}
	}
	pkg, err := new(types.Config).Check("wire", fset, files, nil) // it imports nothing
	require.NoError(t, err)
	m := map[string]int64{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if rest, is := strings.CutPrefix(name, prefix); ok && is && ast.IsExported(rest) {
			n, exact := constant.Int64Val(c.Val())
			require.True(t, exact, name)
			m[rest] = n
		}
	}
	return m
}

// rows are those of the table whose head begins so: what is in the column of names, up to a
// comma, and the number in that of numbers.
func rows(t *testing.T, p needs.Page, head string, name, number int) map[string]int64 {
	t.Helper()
	_, text, found := strings.Cut(p.Text, "\n"+head)
	require.True(t, found, head)
	text, _, _ = strings.Cut(text, "\n\n")
	m := map[string]int64{}
	for _, line := range strings.Split(text, "\n")[2:] {
		cells := strings.Split(line, " | ")
		require.Greater(t, len(cells), max(name, number), line)
		key, _, _ := strings.Cut(strings.Trim(cells[name], "| "), ",")
		assert.NotContains(t, m, key, "twice")
		n, err := strconv.ParseInt(strings.Trim(cells[number], "| "), 10, 64)
		require.NoError(t, err, line)
		m[key] = n
	}
	return m
}

// TestDocument: docs/protocol.md has each type of message, each limit and each kind of event
// that there is, and no other.
func TestDocument(t *testing.T) {
	doc := needs.ReadPage(t, "../../docs/protocol.md")
	assert.Equal(t, numbers(t, "Type"), rows(t, doc, "| type | name |", 1, 0))
	limits := numbers(t, "Max")
	delete(limits, "Event") // which comes of others
	limits["SetupLogins"] = SetupLogins
	listed := map[string]int64{}
	for name, n := range rows(t, doc, "| limit |", 0, 1) {
		listed[strings.TrimPrefix(name, "Max")] = n
	}
	assert.Equal(t, limits, listed)
	kinds := map[int64]bool{}
	for _, n := range numbers(t, "Event") {
		kinds[n] = true
	}
	described := map[int64]bool{}
	for _, n := range rows(t, doc, "| kind | event |", 1, 0) {
		described[n] = true
	}
	assert.Equal(t, kinds, described)
	doc.Has(t, "Version "+strconv.Itoa(Version)+".")
}

func FuzzRequest(f *testing.F) {
	good, _ := AppendRequest(nil, sampleRequest())
	f.Add(good)
	x11, _ := AppendRequest(nil, sampleX11())
	f.Add(x11)
	typed := sampleRequest()
	typed.Flags |= FlagTyped
	typed.Typed = []byte("a\n\x16\x04\x04")
	withTyped, _ := AppendRequest(nil, typed)
	f.Add(withTyped)
	f.Add([]byte{Version, byte(TypeRequest), 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		var r Request
		if DecodeRequest(p, &r) != nil {
			return
		}
		again, err := AppendRequest(nil, &r)
		require.NoError(t, err)
		require.Equal(t, p, again, "what decodes has one encoding")
	})
}

// bodies are the messages besides Request: each decodes a body, with what the fuzzer gives
// as flags, and encodes it again.
var bodies = map[string]func(flags uint16, b []byte) ([]byte, error){
	"Started": func(flags uint16, b []byte) ([]byte, error) {
		m, err := DecodeStarted(flags, b)
		return AppendStarted(nil, m), err
	},
	"Exited": func(flags uint16, b []byte) ([]byte, error) {
		m, err := DecodeExited(flags, b)
		return AppendExited(nil, m), err
	},
	"Refused": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeRefused(b)
		return AppendRefused(nil, m), err
	},
	"Signal": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeSignal(b)
		return AppendSignal(nil, m), err
	},
	"Status": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeStatus(b)
		return AppendStatus(nil, &m), err
	},
	"Stop": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeStop(b)
		return AppendStop(nil, m), err
	},
	"AddLogin": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeAddLogin(b)
		return AppendAddLogin(nil, &m), err
	},
	"DropLogin": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeDropLogin(b)
		return AppendDropLogin(nil, m), err
	},
	"Exec": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeExec(b)
		return AppendExec(nil, &m), err
	},
	"Service": func(flags uint16, b []byte) ([]byte, error) {
		m, err := DecodeService(b)
		return AppendService(nil, &m, flags), err
	},
	"Log": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeText(b)
		return AppendText(nil, TypeLog, m), err
	},
	"Sessions": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeSessions(b)
		return AppendSessions(nil, &m), err
	},
	"Start": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeStart(b)
		return AppendStart(nil, m), err
	},
	"Limit": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeLimit(b)
		return AppendLimit(nil, &m), err
	},
	"Verdict": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeVerdict(b)
		return AppendVerdict(nil, m), err
	},
	"Unpack": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeUnpack(b)
		if err != nil {
			return nil, err
		}
		return AppendUnpack(nil, &m)
	},
	"Progress": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeProgress(b)
		return AppendProgress(nil, TypeProgress, m), err
	},
	"Record": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeRecord(b)
		return AppendRecord(nil, &m), err
	},
	"Recorded": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeRecorded(b)
		return AppendRecorded(nil, TypeOutput, m), err
	},
	"Resize": func(_ uint16, b []byte) ([]byte, error) {
		rows, cols, err := DecodeResize(b)
		return AppendResize(nil, rows, cols), err
	},
	"Dropped": func(_ uint16, b []byte) ([]byte, error) {
		n, err := DecodeDropped(b)
		return AppendDropped(nil, n), err
	},
	"Setup": func(_ uint16, b []byte) ([]byte, error) {
		m, err := DecodeSetup(b)
		if err != nil {
			return nil, err
		}
		return AppendSetup(nil, m)
	},
}

func FuzzBodies(f *testing.F) {
	id := Identity{HostUID: 61001, UID: 1000, Name: "x", Shell: "/bin/sh"}
	setup, err := AppendSetup(nil, &Setup{Name: "n", Logins: []Identity{id}, Mounts: []Mount{{Target: "/x", Source: "/y"}}})
	require.NoError(f, err)
	unpack, err := AppendUnpack(nil, &Unpack{MaxBytes: 1, MaxEntries: 2, Machine: "amd64", Reference: "x:y", Dir: true})
	require.NoError(f, err)
	for _, p := range [][]byte{
		setup, AppendStarted(nil, Started{PID: 7, Flags: FlagAgentFD}), AppendExited(nil, Exited{Signal: 9}),
		AppendRefused(nil, Refused{Status: 125, ID: "id", Text: "x"}), AppendSignal(nil, Signal{15}), AppendStatus(nil, &Status{Name: "n", Served: 1}),
		AppendStop(nil, Stop{1}), AppendAddLogin(nil, &id), AppendDropLogin(nil, 1), AppendExec(nil, &id), AppendText(nil, TypeLog, "x"),
		AppendService(nil, &Service{Name: "cron", As: id}, FlagFind),
		AppendSessions(nil, &SessionLimits{Max: 1, SetUmask: true, Umask: 0o27, Rlimits: []Rlimit{{7, 1}}}), AppendLimit(nil, &Limit{Jail: "web", What: LimitCPU, CPU: 7}), AppendStart(nil, "web"), AppendVerdict(nil, VerdictFaults), unpack, AppendProgress(nil, TypeProgress, Progress{1, 2}),
		AppendRecord(nil, &Record{Rows: 24, Cols: 80, Term: []byte("xterm")}), AppendResize(nil, 1, 2), AppendDropped(nil, 3),
	} {
		_, flags, body, err := Header(p)
		require.NoError(f, err)
		f.Add(flags, body)
	}
	f.Fuzz(func(t *testing.T, flags uint16, b []byte) {
		for name, again := range bodies {
			if p, err := again(flags, b); err == nil {
				require.Equal(t, b, p[HeaderLen:], "%s: what decodes has one encoding", name)
			}
		}
	})
}

// TestEveryBodyIsFuzzed: a message with a body that is decoded is in bodies.
func TestEveryBodyIsFuzzed(t *testing.T) {
	for _, file := range []string{"session.go", "control.go", "image.go", "record.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^func Decode(\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			switch name := m[1]; name {
			case "Request": // FuzzRequest
			case "Text":
				assert.Contains(t, bodies, "Log")
			default:
				assert.Contains(t, bodies, name)
			}
		}
	}
}
