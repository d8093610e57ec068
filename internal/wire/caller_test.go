package wire

import (
	"bytes"
	"os"
	"strconv"
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
		"all":                   {Caller{7, 136 << 8, true, []byte("a 1 b 2"), [][]byte{[]byte("password"), {}}}, Caller{7, 136 << 8, true, []byte("a 1 b 2"), [][]byte{[]byte("password"), {}}}},
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
		"empty": nil, "too short": good[:len(good)-1], "something behind": append(append([]byte{}, good...), 0),
		"a truth that is none":         append(append(append([]byte{}, good[:12]...), 2), good[13:]...),
		"a connection too long":        append(append(putU32(append([]byte{}, good[:13]...), MaxConnection+1), make([]byte, MaxConnection+2)...), 0, 0),
		"more lines than there are":    append(append([]byte{}, good[:len(good)-2]...), 1, 0),
		"more lines than there can be": append(append([]byte{}, good[:len(good)-2]...), MaxAuth+1, 0),
		"too long":                     make([]byte, MaxCaller),
	} {
		_, err := DecodeCaller(b)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
	doc, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	for _, row := range []string{"| " + strconv.Itoa(int(TypeCaller)) + " | Caller |", "| MaxCaller | " + strconv.Itoa(MaxCaller) + " |", "| MaxConnection | " + strconv.Itoa(MaxConnection) + " |"} {
		assert.Contains(t, string(doc), row)
	}
}

func FuzzCaller(f *testing.F) {
	f.Add(AppendCaller(nil, &Caller{PID: 7, SSHD: true, Connection: []byte("a 1 b 2"), Auth: [][]byte{[]byte("password")}})[HeaderLen:])
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
