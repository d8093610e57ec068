// Package authkeys reads lines of authorized_keys(5) that somebody inside a
// jail wrote, and writes the ones sshd on the host may act on. No byte of a
// line is copied: a Key is what was understood, and Encode writes that anew.
//
// The grammar is OpenSSH's (auth2-pubkeyfile.c, auth-options.c). Where the two
// differ, this package refuses a line that sshd would take: a port by service
// name, "rsa-sha2-256" for "ssh-rsa", a key that is not in its one canonical
// encoding, control bytes outside the comment.
package authkeys

import (
	"bytes"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLine is the longest line Parse accepts, in bytes.
const MaxLine = 16 << 10

var (
	// ErrBlank means a blank line or a comment: nothing to report.
	ErrBlank = errors.New("blank line")

	errLong    = errors.New("line too long")
	errNUL     = errors.New("NUL byte")
	errNoKey   = errors.New("no key of a known type")
	errQuote   = errors.New("option without its quotes")
	errUnknown = errors.New("unknown option")
	errTwice   = errors.New("option given twice")
	errValue   = errors.New("invalid value of an option")
)

// A Key is one line: a public key and what it may be used for.
type Key struct {
	Type string // "ssh-ed25519", as the blob says too
	Blob []byte // in its canonical encoding: equal keys have equal blobs

	// Options are all options of the line in their order, the dropped ones
	// included; sshd lets a later flag override an earlier one.
	Options []Option

	// What sshd decides on, judged from Options.

	CertAuthority bool   // the key signs certificates and cannot log in itself
	Command       string // value of command=, when HasCommand
	HasCommand    bool
	From          string // pattern list of from=, when HasFrom
	HasFrom       bool
	Principals    []string // names in principals=, when HasPrincipals
	HasPrincipals bool
	ExpiryTimes   []string // values of expiry-time=, which sshd judges

	Comment string // may hold any byte but NUL; Encode leaves it out
}

// An Option is one option, its name in OpenSSH's spelling ("no-pty",
// "X11-forwarding"), its value without quotes.
type Option struct {
	Name     string
	Value    string
	HasValue bool
}

// kind is what becomes of an option in Encode.
type kind int

const (
	pass kind = iota // printed
	drop             // judged and left out
)

// flags are the options without a value; those marked can be negated.
var flags = []struct {
	name   string
	negate bool
	kind   kind
}{
	{"restrict", false, pass},
	{"cert-authority", false, pass},
	{"port-forwarding", true, pass},
	{"agent-forwarding", true, pass},
	{"X11-forwarding", true, pass},
	{"touch-required", true, pass},
	{"verify-required", true, pass},
	{"pty", true, pass},
	// ~/.ssh/rc would run on the host.
	{"user-rc", true, drop},
}

// values are the options with a value in quotes.
var values = []struct {
	name  string
	kind  kind
	once  bool
	valid func(string) bool
}{
	// sshd would run it on the host; the binding takes its place.
	{"command", drop, true, printable},
	{"principals", pass, true, printable},
	{"from", pass, true, printable},
	{"expiry-time", pass, false, validTime},
	// LD_PRELOAD= would reach a process on the host.
	{"environment", drop, false, validEnv},
	{"permitopen", pass, false, validPermitOpen},
	{"permitlisten", pass, false, validPermitListen},
	{"tunnel", drop, false, validTunnel},
}

// Parse reads one line, with or without its line end. Any error but ErrBlank
// says why the line counts for nothing; it names no part of it.
func Parse(line []byte) (Key, error) {
	if len(line) > MaxLine {
		return Key{}, errLong
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return Key{}, errNUL
	}
	s := strings.TrimLeft(strings.TrimRight(string(line), "\r\n"), " \t")
	if s == "" || s[0] == '#' {
		return Key{}, ErrBlank
	}
	// A line that does not begin with a key begins with options.
	var k Key
	if !k.readKey(s) {
		options, rest, ok := cutOptions(s)
		if !ok {
			return Key{}, errQuote
		}
		if err := k.readOptions(options); err != nil {
			return Key{}, err
		}
		if !k.readKey(strings.TrimLeft(rest, " \t")) {
			return Key{}, errNoKey
		}
	}
	return k, nil
}

// readKey reads "TYPE BASE64 COMMENT".
func (k *Key) readKey(s string) bool {
	typ, rest := cutBlank(s)
	b64, comment := cutBlank(rest)
	blob, err := decodeBlob(typ, b64)
	if err != nil {
		return false
	}
	k.Type, k.Blob, k.Comment = typ, blob, comment
	return true
}

// cutOptions splits the options off, which end at a blank outside quotes.
func cutOptions(s string) (options, rest string, ok bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return s[:i], s[i:], true
		}
	}
	return s, "", !quoted
}

// readOptions judges the options one by one. One that sshd would refuse makes
// the line worthless, as it does there: an option not understood may be the
// one that restricts the key.
func (k *Key) readOptions(s string) error {
	for s != "" {
		if s[0] == ',' { // sshd skips empty options
			s = s[1:]
			continue
		}
		opt, rest, err := readOption(s)
		if err != nil {
			return err
		}
		if rest != "" && rest[0] != ',' {
			return errUnknown
		}
		if err := k.judge(opt); err != nil {
			return err
		}
		k.Options = append(k.Options, opt)
		s = rest
	}
	return nil
}

// readOption reads one option; sshd matches its name without regard to case.
func readOption(s string) (opt Option, rest string, err error) {
	for _, f := range flags {
		if hasPrefixFold(s, f.name) {
			return Option{Name: f.name}, s[len(f.name):], nil
		}
		if f.negate && hasPrefixFold(s, "no-"+f.name) {
			return Option{Name: "no-" + f.name}, s[len("no-")+len(f.name):], nil
		}
	}
	for _, v := range values {
		if hasPrefixFold(s, v.name+"=") {
			value, rest, ok := dequote(s[len(v.name)+1:])
			if !ok {
				return Option{}, "", errQuote
			}
			if !v.valid(value) {
				return Option{}, "", errValue
			}
			return Option{Name: v.name, Value: value, HasValue: true}, rest, nil
		}
	}
	return Option{}, "", errUnknown
}

// dequote reads a value in quotes; \" is a quote, any other backslash itself.
func dequote(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// quote is dequote's inverse. A value read by dequote never ends in a
// backslash, which would swallow our closing quote.
func quote(b *bytes.Buffer, value string) {
	b.WriteByte('"')
	b.WriteString(strings.ReplaceAll(value, `"`, `\"`))
	b.WriteByte('"')
}

// judge notes what opt decides.
func (k *Key) judge(opt Option) error {
	for _, v := range values {
		if v.name == opt.Name && v.once && k.has(opt.Name) {
			return errTwice
		}
	}
	switch opt.Name {
	case "cert-authority":
		k.CertAuthority = true
	case "command":
		k.Command, k.HasCommand = opt.Value, true
	case "from":
		k.From, k.HasFrom = opt.Value, true
	case "principals":
		k.HasPrincipals = true
		for _, name := range strings.Split(opt.Value, ",") {
			if name == "" { // sshd stops here, too
				break
			}
			k.Principals = append(k.Principals, name)
		}
	case "expiry-time":
		k.ExpiryTimes = append(k.ExpiryTimes, opt.Value)
	}
	return nil
}

func (k *Key) has(option string) bool {
	for _, o := range k.Options {
		if o.Name == option {
			return true
		}
	}
	return false
}

// Encode returns the line for sshd, without a line end: the options that
// sshd may act on in their order, then ours, then the key.
//
// binding is the command the key is bound to. A command of the key's own gives
// way to it here and is honoured inside, see Rule. It matters where the account
// is not covered by a ForceCommand: a key from inside a jail must not open a
// host shell there, and a certificate with a forced command of its own is
// refused because the two differ (sshauthopt_merge). An empty binding leaves it
// out.
func (k *Key) Encode(binding string) []byte {
	var b bytes.Buffer
	for _, o := range k.Options {
		if kindOf(o.Name) != pass {
			continue
		}
		b.WriteString(o.Name)
		if o.HasValue {
			b.WriteByte('=')
			quote(&b, o.Value)
		}
		b.WriteByte(',')
	}
	// Last, for a later flag wins.
	b.WriteString("no-user-rc")
	if binding != "" {
		b.WriteString(",command=")
		quote(&b, binding)
	}
	b.WriteString(" " + k.Type + " " + encodeBase64(k.Blob))
	return b.Bytes()
}

func kindOf(option string) kind {
	for _, f := range flags {
		if option == f.name || f.negate && option == "no-"+f.name {
			return f.kind
		}
	}
	for _, v := range values {
		if option == v.name {
			return v.kind
		}
	}
	return drop
}

// printable refuses control characters of any kind and broken UTF-8.
func printable(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func number(s string, low, high int) bool {
	if !digits(s) || len(s) > 10 {
		return false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n >= low && n <= high
}

// validTime is misc.c:parse_absolute_time: YYYYMMDD[HHMM[SS]][Z|UTC], after the
// epoch. sshd judges it once more, in its own time zone.
func validTime(s string) bool {
	if n := len(s) - 1; n > 0 && strings.EqualFold(s[n:], "Z") {
		s = s[:n]
	} else if n := len(s) - 3; n > 0 && strings.EqualFold(s[n:], "UTC") {
		s = s[:n]
	}
	if !digits(s) || len(s) != 8 && len(s) != 12 && len(s) != 14 {
		return false
	}
	full := s + "000000"[:14-len(s)]
	two := func(i int) int { return int(full[i]-'0')*10 + int(full[i+1]-'0') }
	month, day, hour, minute, second := two(4), two(6), two(8), two(10), two(12)
	// As strptime(3) has it: any month may have 31 days.
	return month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour <= 23 && minute <= 59 && second <= 60 &&
		full > "19700101000000"
}

// validEnv is NAME=VALUE with a name of letters, digits and underscores.
func validEnv(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return false
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		default:
			return false
		}
	}
	return printable(s)
}

// validTunnel is a2tun's idea of a device.
func validTunnel(s string) bool {
	return strings.EqualFold(s, "any") || number(s, 0, 0x7ffffffd)
}

func validPermitOpen(s string) bool {
	const maxHost = 1025 // NI_MAXHOST
	if !printable(s) {
		return false
	}
	end := strings.IndexAny(s, ":/")
	if strings.HasPrefix(s, "[") {
		end = strings.IndexByte(s, ']') + 1
	}
	if end <= 0 && !strings.HasPrefix(s, ":") && !strings.HasPrefix(s, "/") || end >= maxHost ||
		end >= len(s) || s[end] != ':' && s[end] != '/' {
		return false
	}
	port := s[end+1:]
	return port == "*" || number(port, 1, 65535)
}

// validPermitListen also takes a port alone.
func validPermitListen(s string) bool {
	if !strings.Contains(s, ":") {
		s = "*:" + s
	}
	return validPermitOpen(s)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// cutBlank splits s at its first run of blanks.
func cutBlank(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}
