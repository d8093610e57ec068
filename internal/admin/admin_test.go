package admin

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/control"
	"jail/internal/fdsock"
	"jail/internal/quota"
	"jail/internal/sys"
	"jail/internal/wire"
)

// TestOutOfService: a jail that a fault has put out of service is not taken for one that
// the registry has not got.
func TestOutOfService(t *testing.T) {
	dir := t.TempDir()
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: io.Discard, Stderr: io.Discard}
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte("version = 1\n[jail.two]\nrootfs = \"/srv/two\"\nusers = [\"two\"]\ncolour = 1\n"), 0o644))
	_, err := load(opt)
	require.NoError(t, err)

	_, err = Exec(opt, "two", wire.Identity{}, []string{"true"}, false)
	assert.ErrorContains(t, err, "jail two does not run and is out of service: ")
	assert.ErrorContains(t, err, ": jail.two.")
	_, err = Exec(opt, "three", wire.Identity{}, []string{"true"}, false)
	assert.ErrorContains(t, err, `no jail "three" in `)

	assert.ErrorContains(t, Stop(opt, "two", time.Second), ": jail.two.")
	assert.ErrorContains(t, Stop(opt, "three", time.Second), `no jail "three" in `)
}

// TestStopOfOneThatEnds: a jail that ends while it is asked is not running, and no more is
// wrong.
func TestStopOfOneThatEnds(t *testing.T) {
	dir, err := os.MkdirTemp("", "admin") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: io.Discard, Stderr: io.Discard}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "rootfs"), 0o700))
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte("version = 1\n[jail.one]\nrootfs = \""+dir+"/rootfs\"\nusers = { root = { uid = 1000 } }\n"), 0o644))
	require.NoError(t, fdsock.PrepareDir(opt.RuntimeDir))
	listener, err := fdsock.ListenControl(opt.RuntimeDir, "one")
	require.NoError(t, err)
	defer sys.Close(listener)
	go func() {
		_, err := sys.Poll([]sys.PollFD{{FD: int32(listener), Events: sys.PollIn}}, 10_000)
		assert.NoError(t, err)
		conn, _, err := syscall.Accept(listener)
		if assert.NoError(t, err) {
			sys.Close(conn)
		}
	}()
	assert.ErrorIs(t, Stop(opt, "one", time.Second), control.ErrNotRunning)
}

// TestCheckOfAMainFileThatIsNoTOML: check says what serve makes of it, which is to stay with
// what was in force.
func TestCheckOfAMainFileThatIsNoTOML(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: &out, Stderr: io.Discard}
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte("version = 1\n[jail.two\n"), 0o644))
	assert.Equal(t, 1, Check(opt, "", false))
	assert.Contains(t, out.String(), "error: "+opt.ConfigPath+":2: not valid TOML")
	assert.Contains(t, out.String(), "note: nothing new of the registry is used: what was in force stays in force\n")
}

// What cannot be looked at is not called kept.
func TestDiskUse(t *testing.T) {
	for _, dir := range []string{"/proc/none", "/proc"} {
		d := lookAtDisk(dir, quota.Limit{Bytes: 1, Files: 1})
		assert.Equal(t, [2]string{"not kept", "not kept"}, [2]string{d.bytes(), d.files()}, dir)
	}
	var none *diskUse
	assert.Equal(t, [2]string{}, [2]string{none.bytes(), none.files()})
	d := &diskUse{quota.Limit{Bytes: 1 << 30}, quota.Use{Bytes: 3 << 20, Files: 7}, true}
	assert.Equal(t, [2]string{"3.0 MiB of 1.0 GiB"}, [2]string{d.bytes(), d.files()})
	d.limit = quota.Limit{Files: 10}
	assert.Equal(t, [2]string{"", "7 of 10"}, [2]string{d.bytes(), d.files()})
}
