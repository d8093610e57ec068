package sftpserver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextIsACString(t *testing.T) {
	for claim, c := range map[string]struct {
		packet string
		want   string
		bad    bool
	}{
		"empty":                       {"\x00\x00\x00\x00", "", false},
		"any bytes":                   {"\x00\x00\x00\x03a\xff\n", "a\xff\n", false},
		"a NUL at the end is no part": {"\x00\x00\x00\x02a\x00", "a", false},
		"a NUL inside":                {"\x00\x00\x00\x03a\x00b", "", true},
		"two NULs":                    {"\x00\x00\x00\x03a\x00\x00", "", true},
		"longer than the message":     {"\x00\x00\x00\x04abc", "", true},
		"a length that overflows":     {"\xff\xff\xff\xffabc", "", true},
		"half a length":               {"\x00\x00", "", true},
	} {
		r := reader{b: []byte(c.packet)}
		assert.Equal(t, c.want, r.text(), claim)
		assert.Equal(t, c.bad, r.bad, claim)
	}
}

func TestAttributesRoundTrip(t *testing.T) {
	all := attrs{flags: attrSize | attrOwner | attrPermissions | attrTimes, size: 1 << 40, uid: 1, gid: 2, perm: 0o100644, atime: 3, mtime: 4}
	for flags := uint32(0); flags < 16; flags++ {
		a := all
		a.flags = flags
		r := reader{b: putAttrs(nil, &a)}
		got := r.attrs()
		require.False(t, r.bad)
		require.Empty(t, r.b)
		require.Equal(t, putAttrs(nil, &a), putAttrs(nil, &got))
	}
	extended := putU32(putU32(nil, attrExtended), 1)
	extended = putString(putString(extended, "acl@example.org"), "\x00\x01")
	r := reader{b: extended}
	r.attrs()
	assert.False(t, r.bad)
	assert.Empty(t, r.b)
	r = reader{b: putU32(putU32(nil, attrExtended), 1<<31)}
	r.attrs()
	assert.True(t, r.bad, "more extended attributes than there are bytes")
}

func TestOptions(t *testing.T) {
	o := parse([]string{"-eR", "-l", "verbose", "-fLOCAL3", "-u", "027", "-d", "~/x%u", "-p", "open,read,,write", "-P", "remove"})
	assert.Equal(t, options{
		stderr: true, readOnly: true, level: levelVerbose, facility: 19 << 3, umask: 0o27, startDir: "~/x%u",
		allowed: []string{"open", "read"}, denied: []string{"remove"},
	}, o)
	for claim, args := range map[string][]string{
		"an unknown option": {"-x"}, "no value": {"-d"}, "help": {"-h"}, "help among others": {"-eh"},
	} {
		assert.True(t, parse(args).usage, claim)
	}
	for claim, args := range map[string][]string{
		"a umask that is none": {"-u", "8"}, "too large a umask": {"-u", "1000"}, "a list twice": {"-p", "a", "-p", "b"},
	} {
		assert.NotEmpty(t, parse(args).fatal, claim)
	}
	assert.NotEmpty(t, parse([]string{"-l", "loud"}).invalid)
	assert.NotEmpty(t, parse([]string{"-f", "NOBODY"}).invalid)
	assert.False(t, parse([]string{"-c", "/usr/lib/openssh/sftp-server -R"}).readOnly, "as a login shell")
	assert.False(t, parse([]string{"--", "-R"}).readOnly)
	assert.Equal(t, "requests", parse([]string{"-Q", "requests", "-x"}).query)
}

// FuzzRequest takes messages apart as the server does, and holds the decoders to
// what the rest relies on.
func FuzzRequest(f *testing.F) {
	f.Add([]byte{typeOpen, 0, 0, 0, 1, 0, 0, 0, 1, 'a', 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add(append([]byte{typeExtended, 0, 0, 0, 1}, putString(putString(nil, "statvfs@openssh.com"), "/")...))
	f.Add([]byte{typeWrite, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 'x', 'y'})
	f.Fuzz(func(t *testing.T, p []byte) {
		in := reader{b: p}
		code := in.u8()
		r := request{id: in.u32(), kind: kindByCode(code)}
		if code == typeExtended {
			r.kind = kindByExtension(in.text())
		}
		if r.kind == nil || in.bad {
			return
		}
		r.kind.decode(&in, &r)
		if in.bad {
			return
		}
		for _, s := range []string{r.path, r.path2} {
			require.NotContains(t, s, "\x00")
			require.LessOrEqual(t, len(s), len(p))
		}
		for _, b := range [][]byte{r.data, r.uids, r.gids} {
			require.LessOrEqual(t, len(b), len(p))
			require.Equal(t, len(b), cap(b), "an append cannot reach the message")
		}
		for _, h := range []int{r.handle, r.handle2} {
			require.GreaterOrEqual(t, h, -1)
		}
		require.Zero(t, len(r.uids)%4+len(r.gids)%4)
	})
}
