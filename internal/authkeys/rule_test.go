package authkeys

import (
	"encoding/base64"
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
		"a key that is not there, beside one with command": {file: `command="x" ` + a, auth: by(c), err: ErrUnknownKey},
		"a key that is not there, and no command at all":   {file: a + "\n" + b, auth: by(c)},
		"not known, and no command at all":                 {file: a, unknown: true},
		"not known, and some command":                      {file: a + "\n" + `command="x" ` + b, unknown: true, err: ErrUnknownKey},
		"nonsense where the key should be":                 {file: `command="x" ` + a, auth: [][]byte{[]byte("publickey ssh-ed25519 !!")}, err: ErrUnknownKey},
		"half a line":                                      {file: `command="x" ` + a, auth: [][]byte{[]byte("publickey")}, err: ErrUnknownKey},
		"a line sshd ignores does not count":               {file: `nonsense,command="x" ` + a + "\n" + a, auth: by(a)},
	} {
		command, has, err := Rule([]byte(tt.file), tt.auth, !tt.unknown)
		assert.Equal(t, tt.err, err, claim)
		assert.Equal(t, tt.has, has, claim)
		assert.Equal(t, tt.command, command, claim)
	}
}

func FuzzRule(f *testing.F) {
	f.Add([]byte(`command="x" `+testKey(1)+"\n"+testKey(2)), []byte("publickey "+testKey(2)), true)
	f.Fuzz(func(t *testing.T, file, auth []byte, known bool) {
		command, has, err := Rule(file, [][]byte{auth}, known)
		if err != nil || !has {
			require.Empty(t, command)
		}
	})
}
