package authkeys

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

const (
	testBinding = "exec /usr/bin/jail-enter --forced"
	ours        = `no-user-rc,command="` + testBinding + `"`
)

// wire joins strings as RFC 4251 does.
func wire(parts ...string) []byte {
	var b []byte
	for _, p := range parts {
		n := len(p)
		b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		b = append(b, p...)
	}
	return b
}

func b64(blob []byte) string { return base64.StdEncoding.EncodeToString(blob) }

var (
	pub     = strings.Repeat("k", 32)
	ed25519 = wire("ssh-ed25519", pub)
	ed      = "ssh-ed25519 " + b64(ed25519)
	p256    = wire("ecdsa-sha2-nistp256", "nistp256", "\x04"+pub+pub) // its base64 ends in "="
)

// certOf makes one of typ with the fields of its key, signed by ca.
func certOf(typ string, ca []byte, fields ...string) []byte {
	b := wire(append([]string{typ, "nonce"}, fields...)...)
	b = append(b, make([]byte, 8+4)...)
	b = append(b, wire("key id", "principals")...)
	b = append(b, make([]byte, 8+8)...)
	return append(b, wire("", "extensions", "", string(ca), "signature")...)
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		line string
		want string // what Encode makes of it
	}{
		"a bare key":                          {ed, ours + " " + ed},
		"a comment is not repeated":           {ed + " alice@example.org \x1b[31m\x7f", ours + " " + ed},
		"leading blanks":                      {" \t " + ed, ours + " " + ed},
		"tabs between the parts":              {strings.ReplaceAll(ed, " ", " \t ") + "\tc", ours + " " + ed},
		"CRLF":                                {ed + "\r\n", ours + " " + ed},
		"CRLF after a comment":                {ed + " c\r\n", ours + " " + ed},
		"restrict and what it gives back":     {"restrict,pty,port-forwarding " + ed, "restrict,pty,port-forwarding," + ours + " " + ed},
		"order is kept, for the last wins":    {"pty,no-pty,pty " + ed, "pty,no-pty,pty," + ours + " " + ed},
		"case of an option does not matter":   {`RESTRICT,No-X11-Forwarding,FROM="a" ` + ed, `restrict,no-X11-forwarding,from="a",` + ours + " " + ed},
		"every flag sshd may see":             {"agent-forwarding,no-agent-forwarding,X11-forwarding,touch-required,no-touch-required,verify-required " + ed, "agent-forwarding,no-agent-forwarding,X11-forwarding,touch-required,no-touch-required,verify-required," + ours + " " + ed},
		"a value with blanks, commas, quotes": {`from="a b,\"c\" # \d" ` + ed, `from="a b,\"c\" # \d",` + ours + " " + ed},
		"forwarding lists":                    {`permitopen="host:22",permitopen="[::1]:*",permitlisten="8080",permitlisten="localhost:1" ` + ed, `permitopen="host:22",permitopen="[::1]:*",permitlisten="8080",permitlisten="localhost:1",` + ours + " " + ed},
		"expiry-time":                         {`expiry-time="20300101",expiry-time="203001012359Z" ` + ed, `expiry-time="20300101",expiry-time="203001012359Z",` + ours + " " + ed},
		"an authority with principals":        {`cert-authority,principals="a,Jörg" ` + ed, `cert-authority,principals="a,Jörg",` + ours + " " + ed},
		"empty options are skipped":           {",restrict,,pty, " + ed, "restrict,pty," + ours + " " + ed},

		"environment is dropped":         {`environment="LD_PRELOAD=/x.so",pty ` + ed, "pty," + ours + " " + ed},
		"tunnel is dropped":              {`tunnel="0",tunnel="any" ` + ed, ours + " " + ed},
		"user-rc is dropped":             {"user-rc,no-user-rc,user-rc " + ed, ours + " " + ed},
		"a command gives way to ours":    {`command="internal-sftp",pty ` + ed, "pty," + ours + " " + ed},
		"a command with a quote in it":   {`command="echo \"x\"" ` + ed, ours + " " + ed},
		"a command that imitates a line": {`command="x\" ssh-rsa AAAA" ` + ed, ours + " " + ed},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := Parse([]byte(test.line))
			require.NoError(t, err)
			assert.Equal(t, test.want, string(k.Encode(testBinding)))
			assert.Equal(t, strings.Contains(strings.ToLower(test.line), "command="), k.HasCommand)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		line string
		want error
	}{
		"an empty line":             {"", ErrBlank},
		"a blank line":              {" \t\r\n", ErrBlank},
		"a comment":                 {"  # " + ed, ErrBlank},
		"a BOM":                     {"\ufeff" + ed, errUnknown},
		"a NUL anywhere":            {ed + " comment\x00", errNUL},
		"a line beyond the limit":   {ed + strings.Repeat(" ", MaxLine), errLong},
		"an unknown option":         {"no-such-option " + ed, errUnknown},
		"a flag with a tail":        {"restricted " + ed, errUnknown},
		"a flag with a value":       {`restrict="x" ` + ed, errUnknown},
		"no-restrict":               {"no-restrict " + ed, errUnknown},
		"no-cert-authority":         {"no-cert-authority " + ed, errUnknown},
		"a value without quotes":    {"from=a " + ed, errQuote},
		"a quote left open":         {`from="a ` + ed, errQuote},
		"a closing quote escaped":   {`from="a\" ` + ed, errQuote},
		"text after a value":        {`from="a"b ` + ed, errUnknown},
		"two commands":              {`command="a",command="b" ` + ed, errTwice},
		"two from":                  {`from="a",FROM="b" ` + ed, errTwice},
		"two principals":            {`principals="a",principals="b" ` + ed, errTwice},
		"an escape in a value":      {"from=\"a\x1b[31m\" " + ed, errValue},
		"a carriage return in one":  {"from=\"a\rb\" " + ed, errValue},
		"a C1 control in one":       {"from=\"a\u009bb\" " + ed, errValue},
		"broken UTF-8 in one":       {"principals=\"a\xffb\" " + ed, errValue},
		"a bad expiry-time":         {`expiry-time="tomorrow" ` + ed, errValue},
		"an expiry before 1970":     {`expiry-time="19600101Z" ` + ed, errValue},
		"month 13":                  {`expiry-time="20301301" ` + ed, errValue},
		"a bad environment":         {`environment="A-B=c" ` + ed, errValue},
		"environment without =":     {`environment="AB" ` + ed, errValue},
		"a bad tunnel":              {`tunnel="x" ` + ed, errValue},
		"permitopen without port":   {`permitopen="host" ` + ed, errValue},
		"permitopen to port 0":      {`permitopen="host:0" ` + ed, errValue},
		"permitopen to port 65536":  {`permitopen="host:65536" ` + ed, errValue},
		"permitopen half a bracket": {`permitopen="[::1:22" ` + ed, errValue},
		"permitlisten to a name":    {`permitlisten="host:ssh" ` + ed, errValue},
		"options without a key":     {"restrict,pty", errNoKey},
		"options twice":             {"restrict pty " + ed, errNoKey},
		"an unknown type":           {"ssh-foo " + b64(wire("ssh-foo", pub)), errUnknown},
		"a type in capitals":        {"SSH-ED25519 " + b64(ed25519), errUnknown},
		"a type without a key":      {"restrict ssh-ed25519", errNoKey},
		"a blob of another type":    {"restrict ssh-rsa " + b64(ed25519), errNoKey},
		"a blob with a tail":        {"restrict ssh-ed25519 " + b64(append(ed25519[:len(ed25519):len(ed25519)], 0)), errNoKey},
		"a blob cut short":          {"restrict ssh-ed25519 " + b64(ed25519[:40]), errNoKey},
		"a length beyond the blob":  {"restrict ssh-ed25519 " + b64([]byte("\xff\xff\xff\xffssh-ed25519")), errNoKey},
		"a short ed25519 key":       {"restrict ssh-ed25519 " + b64(wire("ssh-ed25519", "short")), errNoKey},
		"base64 without padding":    {"restrict " + strings.TrimRight("ecdsa-sha2-nistp256 "+b64(p256), "="), errNoKey},
		"base64 with stray bits":    {"restrict ecdsa-sha2-nistp256 " + stray(b64(p256)), errNoKey},
		"an unsigned RSA modulus":   {"restrict ssh-rsa " + b64(wire("ssh-rsa", "\x03", "\x80")), errNoKey},
		"an RSA key in two forms":   {"restrict ssh-rsa " + b64(wire("ssh-rsa", "\x03", "\x00\x01")), errNoKey},
		"the wrong curve":           {"restrict ecdsa-sha2-nistp256 " + b64(wire("ecdsa-sha2-nistp256", "nistp384", "\x04"+pub+pub)), errNoKey},
		"a compressed point":        {"restrict ecdsa-sha2-nistp256 " + b64(wire("ecdsa-sha2-nistp256", "nistp256", "\x02"+pub)), errNoKey},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(test.line))
			assert.Equal(t, test.want, err)
		})
	}
}

// stray sets the bits of the last character that stand for no byte.
func stray(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	body := strings.TrimRight(s, "=")
	last := strings.IndexByte(alphabet, body[len(body)-1])
	return body[:len(body)-1] + alphabet[last|1:last|1+1] + s[len(body):]
}

func TestJudged(t *testing.T) {
	k, err := Parse([]byte(`cert-authority,from="10.0.0.0/8,!10.1.*",principals="alice,bob,,carol",` +
		`expiry-time="20300102Z",expiry-time="202912312359utc",expiry-time="20310101",command="x \"y\"" ` + ed + " note\r\n"))
	require.NoError(t, err)
	assert.True(t, k.CertAuthority)
	assert.True(t, k.HasFrom)
	assert.Equal(t, "10.0.0.0/8,!10.1.*", k.From)
	assert.Equal(t, []string{"alice", "bob"}, k.Principals, "sshd stops at an empty name")
	assert.Equal(t, `x "y"`, k.Command)
	assert.Equal(t, "note", k.Comment)
	assert.Equal(t, "ssh-ed25519", k.Type)
	assert.Equal(t, ed25519, k.Blob)
	assert.Equal(t, []string{"20300102Z", "202912312359utc", "20310101"}, k.ExpiryTimes)
}

func TestMatches(t *testing.T) {
	other := wire("ssh-ed25519", strings.Repeat("o", 32))
	line := func(s string) Key {
		k, err := Parse([]byte(s))
		require.NoError(t, err)
		return k
	}
	cert := func(ca []byte) string {
		return "ssh-ed25519-cert-v01@openssh.com " + b64(certOf("ssh-ed25519-cert-v01@openssh.com", ca, pub))
	}
	for name, test := range map[string]struct {
		line, offer string
		want        bool
	}{
		"the same key":                                 {ed, ed, true},
		"another key":                                  {ed, "ssh-ed25519 " + b64(other), false},
		"an authority does not log in itself":          {"cert-authority " + ed, ed, false},
		"a certificate by that authority":              {"cert-authority " + ed, cert(ed25519), true},
		"a certificate by another":                     {"cert-authority " + ed, cert(other), false},
		"a certificate by a key that is no authority":  {ed, cert(ed25519), false},
		"a certificate in the file is no key for sshd": {cert(ed25519), cert(ed25519), false},
	} {
		t.Run(name, func(t *testing.T) {
			typ, key, _ := strings.Cut(test.offer, " ")
			o, err := ParseOffer(typ, key)
			require.NoError(t, err)
			k := line(test.line)
			assert.Equal(t, test.want, k.Matches(o))
		})
	}

	_, err := ParseOffer("ssh-new@openssh.com", "AAAA")
	assert.ErrorIs(t, err, ErrType)
	_, err = ParseOffer("ssh-ed25519", b64(other)+"\n")
	assert.Error(t, err)
	nested := certOf("ssh-ed25519-cert-v01@openssh.com", certOf("ssh-ed25519-cert-v01@openssh.com", ed25519, pub), pub)
	_, err = ParseOffer("ssh-ed25519-cert-v01@openssh.com", b64(nested))
	assert.Error(t, err, "a certificate cannot sign")
}

// keygen runs ssh-keygen in dir.
func keygen(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("ssh-keygen", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "ssh-keygen %v: %s", args, out)
	return out
}

func requireKeygen(t *testing.T) {
	t.Helper()
	needs.Program(t, "ssh-keygen")
}

// Keys and certificates of the real ssh-keygen are understood, and it
// understands the lines made of them.
func TestRealKeys(t *testing.T) {
	requireKeygen(t)
	dir := t.TempDir()
	keygen(t, dir, "-q", "-t", "ed25519", "-N", "", "-f", "ca")
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pub"))
	require.NoError(t, err)
	caFields := strings.Fields(string(ca))
	for _, gen := range [][]string{
		{"-t", "ed25519"}, {"-t", "rsa", "-b", "2048"},
		{"-t", "ecdsa", "-b", "256"}, {"-t", "ecdsa", "-b", "384"}, {"-t", "ecdsa", "-b", "521"},
	} {
		name := gen[1] + gen[len(gen)-1]
		keygen(t, dir, append(gen, "-q", "-N", "", "-f", name)...)
		keygen(t, dir, "-q", "-s", "ca", "-I", "id", "-n", "alice", "-O", "force-command=x", name+".pub")

		text, err := os.ReadFile(filepath.Join(dir, name+".pub"))
		require.NoError(t, err)
		k, err := Parse(append([]byte(`from="a\"b c",restrict `), text...))
		require.NoError(t, err, name)
		encoded := append(k.Encode(testBinding), '\n')
		require.NoError(t, os.WriteFile(filepath.Join(dir, "keys"), encoded, 0o600))
		want := strings.Fields(string(keygen(t, dir, "-l", "-f", name+".pub")))[:2]
		got := strings.Fields(string(keygen(t, dir, "-l", "-f", "keys")))[:2]
		assert.Equal(t, want, got, "length and fingerprint of %s", encoded)

		text, err = os.ReadFile(filepath.Join(dir, name+"-cert.pub"))
		require.NoError(t, err)
		fields := strings.Fields(string(text))
		offer, err := ParseOffer(fields[0], fields[1])
		require.NoError(t, err, name)
		assert.Equal(t, caFields[1], b64(offer.CA))
	}
}

// Security keys cannot be made without one; these are of the documented form
// (PROTOCOL.u2f) and ssh-keygen agrees.
func TestSecurityKeys(t *testing.T) {
	requireKeygen(t)
	// The base point of P-256.
	const basePoint = "\x04" +
		"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1\x39\x45\xd8\x98\xc2\x96" +
		"\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5"
	for typ, fields := range map[string][]string{
		"sk-ssh-ed25519@openssh.com":         {pub, "ssh:"},
		"sk-ecdsa-sha2-nistp256@openssh.com": {"nistp256", basePoint, "ssh:"},
	} {
		k, err := Parse([]byte("verify-required " + typ + " " + b64(wire(append([]string{typ}, fields...)...))))
		require.NoError(t, err, typ)
		file := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.WriteFile(file, append(k.Encode(testBinding), '\n'), 0o600))
		assert.Contains(t, string(keygen(t, ".", "-l", "-f", file)), "-SK")

		certType := strings.TrimSuffix(typ, "@openssh.com") + certSuffix
		offer, err := ParseOffer(certType, b64(certOf(certType, ed25519, fields...)))
		require.NoError(t, err, certType)
		assert.Equal(t, ed25519, offer.CA)
	}
}

func FuzzParse(f *testing.F) {
	for _, options := range []string{
		"", "restrict,pty ", `command="a\"b" `, `from="a b",no-user-rc,user-rc `, `environment="A=b",tunnel="1" `,
		`expiry-time="20300101",permitopen="[::1]:*",permitlisten="1",principals="a,b",cert-authority `, "\ufeff", ",, ",
		`from="\\" `, `from="a\\"" `,
	} {
		f.Add([]byte(options + ed + " comment\r\n"))
	}
	f.Add([]byte("ssh-rsa " + b64(wire("ssh-rsa", "\x01\x00\x01", "\x00\xff")) + "\x00"))
	f.Add([]byte("ssh-ed25519-cert-v01@openssh.com " + b64(certOf("ssh-ed25519-cert-v01@openssh.com", ed25519, pub))))
	f.Fuzz(func(t *testing.T, line []byte) {
		k, err := Parse(line)
		if err != nil {
			return
		}
		out := k.Encode(testBinding)
		for _, r := range string(out) {
			if r < ' ' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("control character %q in %q", r, out)
			}
		}
		if bytes.Count(out, []byte(testBinding)) < 1 || !bytes.HasSuffix(out, []byte(ours+" "+k.Type+" "+b64(k.Blob))) {
			t.Fatalf("not bound: %q", out)
		}
		if len(out) > 2*MaxLine+200 {
			t.Fatalf("%d bytes out of %d", len(out), len(line))
		}
		var want []Option
		for _, o := range k.Options {
			if kindOf(o.Name) == pass {
				want = append(want, o)
			}
		}
		want = append(want, Option{Name: "no-user-rc"}, Option{"command", testBinding, true})
		if len(out) > MaxLine {
			return // quoting grew it beyond what Parse takes; sshd takes it
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%v: %q", err, out)
		}
		if again.Type != k.Type || !bytes.Equal(again.Blob, k.Blob) || again.Comment != "" || again.Command != testBinding {
			t.Fatalf("another key: %q", out)
		}
		assert.Equal(t, want, again.Options)
		for _, o := range again.Options[:len(again.Options)-2] {
			switch o.Name {
			case "restrict", "pty", "no-pty", "port-forwarding", "no-port-forwarding", "agent-forwarding", "no-agent-forwarding",
				"X11-forwarding", "no-X11-forwarding", "from", "expiry-time", "permitopen", "permitlisten", "cert-authority",
				"principals", "touch-required", "no-touch-required", "verify-required", "no-verify-required":
			default:
				t.Fatalf("option %q must not be printed", o.Name)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte(`restrict,pty,from="10.0.0.0/8" ` + ed + " comment")
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}
