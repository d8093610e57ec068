package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCaller(t *testing.T) {
	many := make([][]byte, MaxAuth+1)
	for i := range many {
		many[i] = []byte("x")
	}
	overhead := HeaderLen + 4 + 8 + 1 + 4 + 1 + 2 + 4 + 1
	for claim, tt := range map[string]struct{ in, want Caller }{
		"nothing known":         {Caller{PID: 7}, Caller{PID: 7, Connection: []byte{}}},
		"all":                   {Caller{PID: 7, TTY: 136 << 8, SSHD: true, Connection: []byte("a 1 b 2"), Auth: [][]byte{[]byte("password"), {}}}, Caller{PID: 7, TTY: 136 << 8, SSHD: true, Connection: []byte("a 1 b 2"), Auth: [][]byte{[]byte("password"), {}}}},
		"a command":             {Caller{Connection: []byte{}, Command: []byte("id -u")}, Caller{Connection: []byte{}, Command: []byte("id -u")}},
		"a command of exec":     {Caller{Connection: []byte{}, Command: []byte("id"), Jail: []byte("web"), UID: 1000}, Caller{Connection: []byte{}, Command: []byte("id"), Jail: []byte("web"), UID: 1000}},
		"a shell of exec":       {Caller{Connection: []byte{}, Jail: []byte("web"), UID: 1000}, Caller{Connection: []byte{}, Command: []byte{}, Jail: []byte("web"), UID: 1000}},
		"the longest command":   {Caller{Connection: []byte{}, Command: bytes.Repeat([]byte("x"), MaxCommand)}, Caller{Connection: []byte{}, Command: bytes.Repeat([]byte("x"), MaxCommand)}},
		"1 MiB of command":      {Caller{Connection: []byte{}, Command: bytes.Repeat([]byte("\x1b"), 1<<20)}, Caller{Connection: []byte{}, Command: bytes.Repeat([]byte("\x1b"), MaxCommand)}},
		"lines and a command":   {Caller{Connection: []byte{}, Command: []byte("id"), Auth: [][]byte{bytes.Repeat([]byte("x"), MaxCaller-overhead-6)}}, Caller{Connection: []byte{}, Auth: [][]byte{bytes.Repeat([]byte("x"), MaxCaller-overhead-6)}}},
		"a name too long":       {Caller{Connection: []byte{}, Jail: bytes.Repeat([]byte("x"), MaxJailName+1)}, Caller{Connection: []byte{}}},
		"the longest":           {Caller{Connection: bytes.Repeat([]byte("x"), MaxConnection)}, Caller{Connection: bytes.Repeat([]byte("x"), MaxConnection)}},
		"a connection too long": {Caller{Connection: bytes.Repeat([]byte("x"), MaxConnection+1)}, Caller{Connection: []byte{}}},
		"a line that just fits": {Caller{Auth: [][]byte{bytes.Repeat([]byte("x"), MaxCaller-overhead)}}, Caller{Connection: []byte{}, Auth: [][]byte{bytes.Repeat([]byte("x"), MaxCaller-overhead)}}},
		"a line too long":       {Caller{Auth: [][]byte{bytes.Repeat([]byte("x"), MaxCaller-overhead+1)}}, Caller{Connection: []byte{}}},
		"as many as can be":     {Caller{Auth: many[1:]}, Caller{Connection: []byte{}, Auth: many[1:]}},
		"too many lines":        {Caller{Auth: many}, Caller{Connection: []byte{}}},
	} {
		p := AppendCaller(nil, &tt.in)
		require.LessOrEqual(t, len(p), MaxCaller, claim)
		typ, _, body, err := Header(p)
		require.NoError(t, err)
		assert.Equal(t, TypeCaller, typ)
		got, err := DecodeCaller(body)
		require.NoError(t, err, claim)
		assert.Equal(t, tt.want, got, claim)
	}
	good := AppendCaller(nil, &Caller{PID: 7, Connection: []byte("x")})[HeaderLen:]
	for claim, b := range map[string][]byte{
		"empty": nil, "too short": good[:len(good)-1], "something behind": append(append([]byte{}, good...), 0), "a command that is none": append(append([]byte{}, good...), 0, 0, 0, 0, 0),
		"half a command":               append(append([]byte{}, good...), 2, 0, 0, 0, 'x'),
		"a command too long":           append(putU32(append([]byte{}, good...), MaxCommand+1), make([]byte, MaxCommand+2)...),
		"no name behind a command":     append(append([]byte{}, good...), 1, 0, 0, 0, 'x', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0),
		"no uid behind a name":         append(append([]byte{}, good...), 1, 0, 0, 0, 'x', 0, 1, 0, 0, 0, 'w', 0),
		"a truth that is none":         append(append(append([]byte{}, good[:12]...), 2), good[13:]...),
		"a connection too long":        append(append(putU32(append([]byte{}, good[:13]...), MaxConnection+1), make([]byte, MaxConnection+2)...), 0, 0),
		"more lines than there are":    append(append([]byte{}, good[:len(good)-2]...), 1, 0),
		"more lines than there can be": append(append([]byte{}, good[:len(good)-2]...), MaxAuth+1, 0),
		"too long":                     make([]byte, MaxCaller),
	} {
		_, err := DecodeCaller(b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}

func FuzzCaller(f *testing.F) {
	f.Add(AppendCaller(nil, &Caller{PID: 7, SSHD: true, Connection: []byte("a 1 b 2"), Auth: [][]byte{[]byte("password")}})[HeaderLen:])
	f.Add(AppendCaller(nil, &Caller{PID: 7, Command: []byte("id")})[HeaderLen:])
	f.Add(AppendCaller(nil, &Caller{PID: 7, Command: []byte("id"), Jail: []byte("web"), UID: 1})[HeaderLen:])
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeCaller(body)
		if err != nil {
			return
		}
		if again := AppendCaller(nil, &c)[HeaderLen:]; !bytes.Equal(again, body) {
			t.Fatalf("%x is not %x", again, body)
		}
	})
}
