package launch_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
	"jail/internal/needs"
	"jail/internal/quota"
	"jail/internal/sys"
)

// TestQuotaThatCannotBeKept: a promise that the file system does not keep is no start.
func TestQuotaThatCannotBeKept(t *testing.T) {
	needRoot(t)
	mem := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", mem, "tmpfs", 0, ""))
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(mem, 0)) })
	spec := newCage(t, true)
	spec.Source.Home = filepath.Join(mem, "alice")
	require.NoError(t, os.Mkdir(spec.Source.Home, 0o700))
	require.NoError(t, os.Chown(spec.Source.Home, testUID, testUID))
	spec.Logins[0].Home = spec.Source.Home
	spec.Limits.DiskBytes = 1 << 30
	_, err := start(t, spec)
	assert.ErrorIs(t, err, quota.ErrNotKept)
	assert.ErrorContains(t, err, "host:"+spec.Source.Home+": quota: its file system keeps no project quotas: ext4 does with tune2fs")
	spec.Limits = jail.Limits{}
	mustStart(t, spec)
}

// withQuotas is a directory on a file system that keeps project quotas: JAIL_TEST_QUOTA, as
// in make try-vm, or an ext4 of the test's own, if the kernel has what keeps them.
func withQuotas(t *testing.T) string {
	if dir := os.Getenv("JAIL_TEST_QUOTA"); dir != "" {
		return dir
	}
	needRoot(t)
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 256<<20))
	out, err := exec.Command(needs.Program(t, "mkfs.ext4"), "-q", "-O", "quota,project", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command("mount", "-t", "ext4", "-o", "loop,prjquota", image, dir).CombinedOutput()
	if err != nil {
		t.Logf("mount: %s", out)
	}
	needs.Config(t, err == nil, "CONFIG_QFMT_V2", "make try-vm")
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// TestQuotaOfABase runs where TestQuota does: the limits of a jail with base are those of its
// state, whatever persists. One that is full starts all the same.
func TestQuotaOfABase(t *testing.T) {
	dir := withQuotas(t)
	for _, persist := range []jail.Persist{jail.PersistHome, jail.PersistAll} {
		t.Run(persist.String(), func(t *testing.T) {
			spec := newBased(t, persist, true)
			spec.Source.State = filepath.Join(dir, "state-"+persist.String())
			t.Cleanup(func() { assert.NoError(t, os.RemoveAll(spec.Source.State)) })
			use := func() quota.Use {
				is, err := quota.Look(spec.Source.State, time.Minute)
				require.NoError(t, err)
				assert.True(t, is.Kept)
				return is.Use
			}
			assert.Zero(t, use(), "it is not there yet")
			// What is there before the limits counts.
			j := mustStart(t, spec)
			require.Equal(t, "", j.out("dd if=/dev/zero of=before bs=1M count=3 2>/dev/null; ln -s before link"))
			j.stop()
			assert.Zero(t, use())
			spec.Limits = jail.Limits{DiskBytes: 16 << 20, Files: 200}
			j = mustStart(t, spec)
			assert.GreaterOrEqual(t, use().Bytes, uint64(3<<20))
			place := "/home/alice"
			if persist == jail.PersistAll {
				place = "/var/tmp"
				assert.Equal(t, "16.0M\n", j.out("df -h / | awk 'END { print $2 }'"), "df shows the limit")
				j.stop()
				r := mustStart(t, spec).withRoot()
				// A file of the base that is changed is the jail's from then on, and the base counts for nobody.
				was := use().Bytes
				require.Equal(t, "", r.out("mkdir -p -m 1777 /var/tmp; chmod 4755 /bin/busybox"))
				assert.Greater(t, use().Bytes, was+1<<19)
				for _, cmd := range []string{"chattr -p 0 /bin/busybox", "chattr -p 7 /home", "chattr -p 0 /"} {
					assert.NotEqual(t, "0\n", r.out("("+cmd+") >/dev/null 2>&1; echo $?"), cmd)
				}
				r.stop()
				j = mustStart(t, spec)
			} else {
				require.Equal(t, "", j.out("dd if=/dev/zero of=/tmp/memory bs=1M count=2 2>/dev/null"), "what does not persist does not count")
			}
			assert.Equal(t, "16.0M\n", j.out("df -h /home | awk 'END { print $2 }'"), "df shows the limit")
			assert.NotEqual(t, "0\n", j.out("dd if=/dev/zero of="+place+"/big bs=1M count=64 2>/dev/null; echo $?"))
			assert.LessOrEqual(t, use().Bytes, uint64(16<<20))
			assert.Greater(t, use().Bytes, uint64(14<<20))
			j.stop()
			// Full as it is, it starts, with the same limit, and its user can make room.
			j = mustStart(t, spec)
			assert.NotEqual(t, "0\n", j.out("dd if=/dev/zero of=more bs=1M count=4 2>/dev/null; echo $?"))
			assert.Equal(t, "0\n", j.out("rm -f more "+place+"/big && dd if=/dev/zero of=more bs=1M count=1 2>/dev/null; echo $?"))
			made := j.out("i=0; while [ $i -lt 400 ] && touch f$i 2>/dev/null; do i=$((i + 1)); done; echo $i")
			assert.Regexp(t, `^1?[0-9]?[0-9]\n$`, made, "and so has the number of files")
			assert.LessOrEqual(t, use().Files, uint64(200))
			j.stop()
			mustStart(t, spec).stop()
			spec.Limits = jail.Limits{}
			j = mustStart(t, spec)
			assert.Equal(t, "0\n", j.out("rm -f f*; dd if=/dev/zero of=big bs=1M count=32 2>/dev/null; echo $?"))
		})
	}
}

// TestQuota: a jail has no more than it may, root inside neither lifts nor leaves that, and
// what was there before counts.
func TestQuota(t *testing.T) {
	dir := withQuotas(t)
	root := newRootfs(t)
	here := filepath.Join(dir, "root")
	require.NoError(t, os.Mkdir(here, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(here)) })
	require.NoError(t, os.CopyFS(here, os.DirFS(root)))
	home := filepath.Join(here, "home", "work")
	require.NoError(t, os.Chown(home, jailUID, jailUID))
	require.NoError(t, os.Mkdir(filepath.Join(home, "old"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "old/file"), make([]byte, 3<<20), 0o644))
	require.NoError(t, syscall.Mkfifo(filepath.Join(home, "fifo"), 0o644))
	use := func() (u quota.Use, ok bool) {
		fd, err := syscall.Open(here, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		require.NoError(t, err)
		defer syscall.Close(fd)
		return quota.Of(fd)
	}
	_, ok := use()
	require.False(t, ok)

	spec := asRoot(newSpec(here, true))
	spec.Limits = jail.Limits{DiskBytes: 16 << 20, Files: 100}
	j := mustStart(t, spec)
	was, ok := use()
	require.True(t, ok)
	assert.Greater(t, was.Bytes, uint64(3<<20), "what was there counts")
	assert.Greater(t, was.Files, uint64(10))
	assert.Equal(t, "busybox\n", j.out("mv /bin/tac /bin/cat2 && readlink /bin/cat2"), "a link of before is moved by being made anew")
	assert.NotEqual(t, "0\n", j.out("dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo $?"))
	now, _ := use()
	assert.LessOrEqual(t, now.Bytes, uint64(16<<20))
	assert.Greater(t, now.Bytes, uint64(14<<20))
	assert.Equal(t, "16.0M\n", j.out("df -h / | awk 'END { print $2 }'"), "df shows the limit")
	for _, cmd := range []string{
		// The attack: files are to be nobody's, or another's.
		"chattr -p 0 /big", "chattr -p 7 /big", "chattr -p 0 /", "chattr -R -p 0 /home",
		"dd if=/dev/zero of=/more bs=1M count=4",
	} {
		assert.NotEqual(t, "0\n", j.out("("+cmd+") >/dev/null 2>&1; echo $?"), cmd)
	}
	made, err := strconv.Atoi(strings.TrimSpace(j.out("rm -f /big /more; i=0; while [ $i -lt 200 ] && touch /home/f$i 2>/dev/null; do i=$((i + 1)); done; echo $i")))
	require.NoError(t, err)
	assert.Greater(t, made, 20)
	assert.Less(t, made, 100)
	now, _ = use()
	assert.LessOrEqual(t, now.Files, uint64(100))
	j.stop()

	// The same, with a lower limit than what it holds, and without one.
	spec.Limits = jail.Limits{DiskBytes: 1 << 20}
	j = mustStart(t, spec)
	assert.NotEqual(t, "0\n", j.out("dd if=/dev/zero of=/big bs=1M count=1 2>/dev/null; echo $?"))
	j.stop()
	spec.Limits = jail.Limits{}
	j = mustStart(t, spec)
	assert.Equal(t, "0\n", j.out("dd if=/dev/zero of=/big bs=1M count=32 2>/dev/null; echo $?"))
	j.stop()

	// Who keeps quotas here already is not put out.
	fd, err := syscall.Open(here, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	x, err := sys.GetFSXAttr(fd)
	require.NoError(t, err)
	x.Project = 4711
	require.NoError(t, sys.SetFSXAttr(fd, x))
	spec.Limits = jail.Limits{DiskBytes: 1 << 30}
	_, err = start(t, spec)
	assert.ErrorContains(t, err, here+": quota: it belongs to project 4711")
}
