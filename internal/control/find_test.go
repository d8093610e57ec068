package control

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPlaceOf(t *testing.T) {
	const mounts = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /srv rw - ext4 /dev/sda2 rw
31 30 0:40 /sub /srv/jails rw - btrfs /dev/sdb rw
32 22 0:50 /deep/er /mnt/a\040b rw - fuse.x y rw
33 30 0:41 / /srv/jails rw - tmpfs tmpfs rw
nonsense
`
	for path, want := range map[string]root{
		"/":                 {"8:1", "/"},
		"/home/x":           {"8:1", "/home/x"},
		"/srv":              {"8:2", "/"},
		"/srvx":             {"8:1", "/srvx"},
		"/srv/other":        {"8:2", "/other"},
		"/srv/jails/debian": {"0:41", "/debian"},
		"/mnt/a b/c":        {"0:50", "/deep/er/c"},
		"/mnt/a b":          {"0:50", "/deep/er"},
	} {
		assert.Equal(t, want, placesOf(mounts).of(path), path)
	}
}

// TestOwnRoot: the two ways to say where a directory is agree.
func TestOwnRoot(t *testing.T) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	r, ok := rootOf(os.Getpid())
	require.True(t, ok)
	assert.Equal(t, r, placesOf(string(text)).of("/"))
}

func TestQuote(t *testing.T) {
	assert.Equal(t, `open "a b": no\n\x1b[2J\\`, Quote("open \"a b\": no\n\x1b[2J\\"))
}
