package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// many are n strings of no length, which fit in any packet.
func many(n int) [][]byte { return make([][]byte, n) }

func long(n int) []byte { return bytes.Repeat([]byte("x"), n) }

// TestLimitsOfARequest: each limit holds at the sender and at the receiver, exactly.
// What no sender sends is made out of a packet that is right: there all strings
// follow each other, and only the counts say which list one belongs to.
func TestLimitsOfARequest(t *testing.T) {
	const (
		counts  = HeaderLen + requestFixed - 6 // where argc, envc and authc are
		strings = HeaderLen + requestFixed
	)
	for claim, tt := range map[string]struct {
		most, more Request
		// spoil makes of the packet of most, with another argument in front, one that
		// is over the limit.
		spoil func(p []byte) []byte
	}{
		"arguments": {
			Request{Args: many(MaxArgs)}, Request{Args: many(MaxArgs + 1)},
			func(p []byte) []byte {
				// The argument in front has made it one too many already.
				return p
			},
		},
		"variables": {
			Request{Env: many(MaxEnv)}, Request{Env: many(MaxEnv + 1)},
			func(p []byte) []byte { return counted(p, counts, 0, MaxEnv+1, 0) },
		},
		"lines on authentication": {
			Request{Auth: many(MaxAuth)}, Request{Auth: many(MaxAuth + 1)},
			func(p []byte) []byte { return counted(p, counts, 0, 0, MaxAuth+1) },
		},
		"a string": {
			Request{Args: [][]byte{long(MaxString)}}, Request{Args: [][]byte{long(MaxString + 1)}},
			func(p []byte) []byte {
				at := strings + 5 // behind the argument in front
				binary.LittleEndian.PutUint32(p[at:], MaxString+1)
				return append(append(p[:len(p)-1], 'x'), 0)
			},
		},
		"a display": {
			Request{Flags: FlagX11, Display: long(MaxDisplay)}, Request{Flags: FlagX11, Display: long(MaxDisplay + 1)},
			func(p []byte) []byte {
				at := strings + 5
				binary.LittleEndian.PutUint32(p[at:], MaxDisplay+1)
				return append(append(p[:len(p)-2], 'x'), 0, 0)
			},
		},
		"a cookie": {
			Request{Flags: FlagX11, Cookie: long(MaxCookie)}, Request{Flags: FlagX11, Cookie: long(MaxCookie + 1)},
			func(p []byte) []byte {
				p[len(p)-MaxCookie-1]++
				return append(p, 'x')
			},
		},
	} {
		t.Run(claim, func(t *testing.T) {
			p, err := AppendRequest(nil, &tt.most)
			require.NoError(t, err)
			var got Request
			require.NoError(t, DecodeRequest(p, &got))
			_, err = AppendRequest(nil, &tt.more)
			assert.ErrorIs(t, err, ErrTooLong)

			// The same packet by hand, with one argument more in front.
			front := append([]byte(nil), p[:strings]...)
			argc := binary.LittleEndian.Uint16(front[counts:])
			binary.LittleEndian.PutUint16(front[counts:], argc+1)
			p = append(append(front, 0, 0, 0, 0, 0), p[strings:]...)
			if argc < MaxArgs {
				require.NoError(t, DecodeRequest(p, &got), "the packet is right before it is spoiled")
			}
			assert.ErrorIs(t, DecodeRequest(tt.spoil(p), &got), ErrMalformed)
		})
	}
}

func counted(p []byte, at int, counts ...uint16) []byte {
	for i, n := range counts {
		binary.LittleEndian.PutUint16(p[at+2*i:], n)
	}
	return p
}

func TestLimitOfAPacket(t *testing.T) {
	full := func(more int) *Request {
		r := &Request{Args: [][]byte{long(MaxString), long(MaxString), nil}}
		r.Args[2] = long(MaxPacket - HeaderLen - requestFixed - 3*5 - 2*MaxString + more)
		return r
	}
	p, err := AppendRequest(nil, full(0))
	require.NoError(t, err)
	require.Len(t, p, MaxPacket)
	var got Request
	require.NoError(t, DecodeRequest(p, &got))
	_, err = AppendRequest(nil, full(1))
	assert.ErrorIs(t, err, ErrTooLong)
	last := p[len(p)-1]
	require.Zero(t, last)
	at := len(p) - 1 - len(got.Args[2]) - 4
	binary.LittleEndian.PutUint32(p[at:], uint32(len(got.Args[2]))+1)
	assert.ErrorIs(t, DecodeRequest(append(append(p[:len(p)-1], 'x'), 0), &got), ErrMalformed)
}

// TestLimitsOfTheRest: texts are cut by the sender and refused by the receiver.
func TestLimitsOfTheRest(t *testing.T) {
	body := func(p []byte) []byte { return p[HeaderLen:] }
	text, err := DecodeText(body(AppendText(nil, TypeLog, string(long(MaxText+1)))))
	require.NoError(t, err)
	assert.Len(t, text, MaxText)
	_, err = DecodeText(putString(nil, string(long(MaxText))))
	assert.NoError(t, err)
	_, err = DecodeText(putString(nil, string(long(MaxText+1))))
	assert.ErrorIs(t, err, ErrMalformed)

	refused := func(id, text int) error {
		_, err := DecodeRefused(putString(putString([]byte{125}, string(long(id))), string(long(text))))
		return err
	}
	assert.NoError(t, refused(IDLen, MaxText))
	assert.ErrorIs(t, refused(IDLen+1, MaxText), ErrMalformed)
	assert.ErrorIs(t, refused(IDLen, MaxText+1), ErrMalformed)
}

// TestLimitsOfASetup: its lists are bounded exactly, at both ends.
func TestLimitsOfASetup(t *testing.T) {
	const name = "x"
	base := func() *Setup { return &Setup{Name: name} }
	for claim, tt := range map[string]struct {
		most int
		set  func(s *Setup, n int)
	}{
		"mounts":           {MaxMounts, func(s *Setup, n int) { s.Mounts = make([]Mount, n) }},
		"entries":          {MaxEntries, func(s *Setup, n int) { s.OwnRoot, s.Entries = true, make([]Entry, n) }},
		"logins":           {SetupLogins, func(s *Setup, n int) { s.Logins = make([]Identity, n) }},
		"env and patterns": {0, nil},
	} {
		t.Run(claim, func(t *testing.T) {
			if tt.set == nil { // bounded by the packet, and by what its count can say
				s := base()
				s.Env, s.EnvAccept = make([]string, 30_000), make([]string, 30_000)
				p, err := AppendSetup(nil, s)
				require.NoError(t, err)
				got, err := DecodeSetup(p[HeaderLen:])
				require.NoError(t, err)
				assert.Len(t, got.Env, 30_000)
				assert.Len(t, got.EnvAccept, 30_000)
				s.Env = make([]string, maxStrings+1)
				_, err = AppendSetup(nil, s)
				assert.ErrorIs(t, err, ErrTooLong)
				return
			}
			s := base()
			tt.set(s, tt.most)
			p, err := AppendSetup(nil, s)
			require.NoError(t, err)
			_, err = DecodeSetup(p[HeaderLen:])
			require.NoError(t, err)
			tt.set(s, tt.most+1)
			_, err = AppendSetup(nil, s)
			assert.ErrorIs(t, err, ErrTooLong)
			// What no sender sends: the count of the longest list, and one element more.
			p, err = appendSetup(nil, s)
			require.NoError(t, err)
			_, err = DecodeSetup(p[HeaderLen:])
			assert.ErrorIs(t, err, ErrMalformed)
		})
	}
	s := base()
	s.Mounts, s.Logins, s.SFTPServer, s.Resolver, s.Locked, s.Devices, s.MemoryEvents = make([]Mount, MaxMounts), make([]Identity, SetupLogins), SFTPServerTree, ResolverTree, true, true, true
	assert.LessOrEqual(t, len(s.places(s.NoDescriptors())), MaxFDs, "the descriptors of the largest set-up fit in a packet")
}

// TestNoteIsALog: who knows nothing of the flag reads the same line.
func TestNoteIsALog(t *testing.T) {
	typ, flags, b, err := Header(AppendNote(nil, "x"))
	require.NoError(t, err)
	assert.Equal(t, TypeLog, typ)
	assert.Equal(t, FlagNote, flags)
	text, err := DecodeText(b)
	require.NoError(t, err)
	assert.Equal(t, "x", text)
	text, err = DecodeText(AppendNote(nil, string(long(MaxText+1)))[HeaderLen:])
	require.NoError(t, err)
	assert.Len(t, text, MaxText)
}
