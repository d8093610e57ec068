package authkeys

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testKey makes the text of an ed25519 key that is all b.
func testKey(b byte) string {
	blob := append([]byte{0, 0, 0, 11}, "ssh-ed25519"...)
	blob = append(blob, 0, 0, 0, 32)
	for i := 0; i < 32; i++ {
		blob = append(blob, b)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob)
}

func TestRule(t *testing.T) {
	a, b, c := testKey(1), testKey(2), testKey(3)
	by := func(keys ...string) (lines [][]byte) {
		for _, k := range keys {
			lines = append(lines, []byte("publickey "+k))
		}
		return lines
	}
	for claim, tt := range map[string]struct {
		file    string
		auth    [][]byte
		unknown bool
		more    bool // keys elsewhere
		command string
		has     bool
		err     error
	}{
		"a key's command holds":                            {file: `command="x y" ` + a, auth: by(a), command: "x y", has: true},
		"another key's does not":                           {file: `command="x" ` + a + "\n" + b, auth: by(b)},
		"an empty command holds":                           {file: `command="" ` + a, auth: by(a), has: true},
		"the first line decides":                           {file: a + "\n" + `command="x" ` + a, auth: by(a)},
		"the first line decides, with a command":           {file: `restrict,command="x" ` + a + "\n" + a, auth: by(a), command: "x", has: true},
		"a condition leaves it open":                       {file: `from="10.*" ` + a + "\n" + `command="x" ` + a, auth: by(a), err: ErrAmbiguous},
		"a condition is harmless if both agree":            {file: `from="10.*",command="x" ` + a + "\n" + `command="x" ` + a, auth: by(a), command: "x", has: true},
		"two keys, one with a command":                     {file: `command="x" ` + a + "\n" + b, auth: by(b, a), command: "x", has: true},
		"two keys with different commands":                 {file: `command="x" ` + a + "\n" + `command="y" ` + b, auth: by(a, b), err: ErrTwoCommands},
		"a password is no key":                             {file: `command="x" ` + a, auth: [][]byte{[]byte("password")}},
		"a password beside a key":                          {file: `command="x" ` + a, auth: append(by(a), []byte("password")), command: "x", has: true},
		"a key that is not there, beside one with command": {file: `command="x" ` + a, auth: by(c), err: ErrNoLine},
		"a key that is not there, and no command at all":   {file: a + "\n" + b, auth: by(c), err: ErrNoLine},
		"a key, and no file":                               {auth: by(c), err: ErrNoLine},
		"one of two keys is not there":                     {file: a, auth: by(a, c), err: ErrNoLine},
		"a key beside a password is not there":             {file: a, auth: append([][]byte{[]byte("password")}, by(c)...), err: ErrNoLine},
		"a key whose line is out of order":                 {file: "nonsense " + a, auth: by(a), err: ErrNoLine},
		"a key behind the last line that counts":           {file: strings.Repeat("#\n", MaxLines) + a, auth: by(a), err: ErrNoLine},
		"a key in the last line that counts":               {file: strings.Repeat("#\n", MaxLines-1) + `command="x" ` + a, auth: by(a), command: "x", has: true},
		"an authority's own key is no line for the key":    {file: "cert-authority " + a, auth: by(a), err: ErrNoLine},
		"a type that no line can have":                     {file: a, auth: [][]byte{[]byte("publickey ssh-new AAAA")}, err: ErrNoLine},
		"a method of keys by another name":                 {file: a, auth: [][]byte{[]byte("publickey-hostbound-v00@openssh.com " + c)}, err: ErrNoLine},
		"a key from elsewhere":                             {file: `command="x" ` + a, auth: by(c), more: true},
		"a key from elsewhere, and no file":                {auth: by(c), more: true},
		"a key from elsewhere, of a type not known here":   {file: a, auth: [][]byte{[]byte("publickey ssh-new AAAA")}, more: true},
		"keys elsewhere do not free the one inside":        {file: `command="x" ` + a, auth: by(a), more: true, command: "x", has: true},
		"a key from elsewhere beside one inside":           {file: `command="x" ` + a, auth: by(c, a), more: true, command: "x", has: true},
		"not known, and no command at all":                 {file: a, unknown: true},
		"not known, and no file":                           {unknown: true},
		"not known, and some command":                      {file: a + "\n" + `command="x" ` + b, unknown: true, err: ErrUnknownKey},
		"not known, and an authority":                      {file: "cert-authority " + a, unknown: true, err: ErrUnknownKey},
		"not known, and keys elsewhere":                    {file: a, unknown: true, more: true, err: ErrUnknownKey},
		"known, and nothing said":                          {file: `command="x" ` + a, auth: [][]byte{nil, []byte("  ")}, err: ErrUnknownKey},
		"nonsense where the key should be":                 {file: a, auth: [][]byte{[]byte("publickey ssh-ed25519 !!")}, err: ErrUnreadable},
		"the same with keys elsewhere":                     {file: a, auth: [][]byte{[]byte("publickey ssh-ed25519 !!")}, more: true, err: ErrUnreadable},
		"half a line":                                      {file: a, auth: [][]byte{[]byte("publickey")}, err: ErrUnreadable},
		"two thirds of one":                                {file: a, auth: [][]byte{[]byte("publickey ssh-ed25519")}, more: true, err: ErrUnreadable},
		"a host's key is not the user's":                   {file: a, auth: [][]byte{[]byte("hostbased " + c)}},
		"a line sshd ignores does not count":               {file: `nonsense,command="x" ` + a + "\n" + a, auth: by(a)},
	} {
		command, has, err := Rule([]byte(tt.file), tt.auth, !tt.unknown, tt.more)
		assert.Equal(t, tt.err, err, claim)
		assert.Equal(t, tt.has, has, claim)
		assert.Equal(t, tt.command, command, claim)
	}
}

func TestByKey(t *testing.T) {
	for claim, tt := range map[string]struct {
		auth []string
		want bool
	}{
		"a password":            {[]string{"password", "keyboard-interactive/pam"}, false},
		"a key":                 {[]string{"publickey " + testKey(1)}, true},
		"a key behind another":  {[]string{"password", "publickey"}, true},
		"nothing said":          {nil, true},
		"blank lines":           {[]string{" "}, true},
		"a word of a key's own": {[]string{"password publickey"}, false},
	} {
		var lines [][]byte
		for _, l := range tt.auth {
			lines = append(lines, []byte(l))
		}
		assert.Equal(t, tt.want, ByKey(lines), claim)
	}
}

func FuzzRule(f *testing.F) {
	f.Add([]byte(`command="x" `+testKey(1)+"\n"+testKey(2)), []byte("publickey "+testKey(2)), true, false)
	f.Add([]byte(nil), []byte("publickey "+testKey(2)), true, true)
	f.Fuzz(func(t *testing.T, file, auth []byte, known, elsewhere bool) {
		command, has, err := Rule(file, [][]byte{auth}, known, elsewhere)
		if err != nil || !has {
			require.Empty(t, command)
		}
		// What a wider registry allows freely, a narrow one allows freely or not at all.
		if wide, bound, bad := Rule(file, [][]byte{auth}, known, true); err == nil && bad == nil {
			require.Equal(t, has, bound)
			require.Equal(t, command, wide)
		}
		// Where the file is not needed it makes no difference.
		if known && !ByKey([][]byte{auth}) {
			require.NoError(t, err)
			require.False(t, has)
		}
	})
}

// FuzzOffer: what is taken for a key has one form only, says its own type, and is
// matched by its own line and by no other.
func FuzzOffer(f *testing.F) {
	typ, b64, _ := strings.Cut(testKey(1), " ")
	f.Add(typ, b64)
	f.Add("ssh-ed25519-cert-v01@openssh.com", b64)
	f.Add("sk-ssh-ed25519@openssh.com", "AAAA")
	for _, options := range []map[string]string{nil, {"force-command": "id"}} {
		line, _ := testCert(f, options)
		words := strings.Fields(string(line))
		f.Add(words[1], words[2])
	}
	other, err := Parse([]byte(testKey(7)))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, typ, b64 string) {
		o, err := ParseOffer(typ, b64)
		if err != nil {
			return
		}
		require.Equal(t, typ, o.Type)
		require.Equal(t, b64, encodeBase64(o.Blob), "another text of the same key")
		require.True(t, o.CA != nil || !o.HasCommand, "a command without a certificate")
		k, err := Parse([]byte(typ + " " + b64))
		require.NoError(t, err)
		require.Equal(t, o.CA == nil, k.Matches(o), "the key's own line; none has a certificate")
		require.Equal(t, o.CA == nil && bytes.Equal(other.Blob, o.Blob), other.Matches(o))
	})
}
