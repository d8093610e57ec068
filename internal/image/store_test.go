package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"jail/internal/imagestore"
)

// three imports three images of one name and returns their ids, the oldest first.
func three(t *testing.T, s *Store, name string) (ids []string) {
	t.Helper()
	for range 3 {
		require.NoError(t, s.Import(job(t, name, archiveOf(t, dir("."), dir("etc"), file("etc/x", name)))))
		f, id, err := s.Open(name)
		require.NoError(t, err)
		f.Close()
		ids = append(ids, id)
	}
	return ids
}

// states are the images there are, with what keeps each.
func states(t *testing.T, s *Store) map[string]string {
	t.Helper()
	list, err := s.List()
	require.NoError(t, err)
	all := map[string]string{}
	for _, i := range list {
		state := ""
		for _, k := range []struct {
			is   bool
			name string
		}{{i.Current, "current"}, {i.InUse, "in use"}, {i.Pinned, "pinned"}} {
			if k.is {
				state += k.name
			}
		}
		all[i.Name+"/"+i.ID] = state
	}
	return all
}

// TestUse: an import makes the new image current, and use goes back.
func TestUse(t *testing.T) {
	s := store(t)
	ids := three(t, s, "deb")
	require.Len(t, map[string]bool{ids[0]: true, ids[1]: true, ids[2]: true}, 3)
	assert.Equal(t, map[string]string{"deb/" + ids[0]: "", "deb/" + ids[1]: "", "deb/" + ids[2]: "current"}, states(t, s))
	require.NoError(t, s.Use("deb", ids[0]))
	assert.Equal(t, map[string]string{"deb/" + ids[0]: "current", "deb/" + ids[1]: "", "deb/" + ids[2]: ""}, states(t, s))
	f, id, err := s.Open("deb/" + ids[1])
	require.NoError(t, err)
	defer f.Close()
	assert.Equal(t, ids[1], id)
	for _, id := range []string{"20010101-000000", "../x", "", ".", "current", ids[0] + "/etc"} {
		assert.Error(t, s.Use("deb", id), id)
	}
	for _, ref := range []string{"deb/", "deb/..", "deb/current", "../deb", "", "other", "deb/20010101-000000"} {
		_, _, err := s.Open(ref)
		assert.Error(t, err, ref)
	}
	assert.Equal(t, "current", states(t, s)["deb/"+ids[0]])
}

// pin pins an image for a jail whose state is in a directory.
func pin(t *testing.T, s *Store, ref, state string) {
	t.Helper()
	f, err := s.Pin(ref, "alice", state, func(image string) error {
		assert.Equal(t, ref, image)
		return nil
	})
	require.NoError(t, err)
	f.Close()
}

// TestPins: an image stays as long as the state of a jail says that it is needed, and no
// longer; nobody has to take a pin away.
func TestPins(t *testing.T) {
	s := store(t)
	ids := three(t, s, "deb")
	state := t.TempDir()
	for _, dir := range []string{"root", "root.old"} {
		require.NoError(t, os.Mkdir(filepath.Join(state, dir), 0o700))
	}
	for _, id := range ids {
		pin(t, s, "deb/"+id, state)
	}
	runs := true
	s.Runs = func(of string) bool {
		assert.Equal(t, state, of)
		return runs
	}
	for file, id := range map[string]string{imagestore.Needs.Now: ids[0], imagestore.Needs.Before: ids[1], imagestore.Needs.Started: ids[2]} {
		require.NoError(t, os.WriteFile(filepath.Join(state, file), []byte("deb/"+id), 0o600))
	}
	assert.Equal(t, map[string]string{"deb/" + ids[0]: "pinned", "deb/" + ids[1]: "pinned", "deb/" + ids[2]: "currentin use"}, states(t, s))
	require.NoError(t, s.Use("deb", ids[1]))
	gone, err := s.Prune("")
	require.NoError(t, err)
	assert.Empty(t, gone, "a jail runs on it")
	for id, says := range map[string]string{ids[0]: "is what the files of jail alice are based on", ids[2]: "is in use: jail alice runs on it"} {
		_, err = s.Remove("deb/" + id)
		assert.ErrorContains(t, err, says)
	}
	// A pin that was not written whole is none, and what it was to replace is there.
	half := filepath.Join(s.Dir(), "deb", ids[2]+".pins", ".alice")
	require.NoError(t, os.WriteFile(half, nil, 0o600))
	assert.Equal(t, "in use", states(t, s)["deb/"+ids[2]])
	require.NoError(t, os.Remove(half))
	require.NoError(t, os.MkdirAll(filepath.Join(half, "x"), 0o700))
	_, err = s.Pin("deb/"+ids[2], "alice", "/elsewhere", func(string) error { return nil })
	require.Error(t, err)
	assert.Equal(t, "in use", states(t, s)["deb/"+ids[2]])
	require.NoError(t, os.RemoveAll(half))

	runs = false
	gone, err = s.Prune("")
	require.NoError(t, err)
	require.Len(t, gone, 1)
	assert.Equal(t, ids[2], gone[0].ID)
	pinned := filepath.Join(s.Dir(), "deb", ids[0]+".pins", "alice")
	require.NoError(t, os.RemoveAll(state))
	require.NoError(t, os.Truncate(pinned, 0))
	gone, err = s.Prune("")
	require.NoError(t, err)
	assert.Empty(t, gone, "nobody knows who needs it")
	require.NoError(t, os.WriteFile(pinned, []byte(state), 0o600))
	gone, err = s.Prune("")
	require.NoError(t, err)
	require.Len(t, gone, 1, "the state has gone, and the pin with it")
	assert.Equal(t, ids[0], gone[0].ID)
	_, err = s.Pin("deb/"+ids[0], "alice", state, func(string) error { return nil })
	assert.ErrorContains(t, err, "there is no image")
}

// TestPrune: what is current, in use or pinned stays.
func TestPrune(t *testing.T) {
	s := store(t)
	a, b := three(t, s, "a"), three(t, s, "b")
	used, _, err := s.Open("a/" + a[0])
	require.NoError(t, err)
	state := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(state, "root"), 0o700))
	needs := func(file, image string) {
		require.NoError(t, os.WriteFile(filepath.Join(state, file), []byte(image), 0o600))
	}
	pin(t, s, "b/"+b[1], state)
	needs(imagestore.Needs.Now, "b/"+b[1])
	gone, err := s.Prune("")
	require.NoError(t, err)
	assert.Len(t, gone, 2)
	assert.Equal(t, map[string]string{"a/" + a[0]: "in use", "a/" + a[2]: "current", "b/" + b[1]: "pinned", "b/" + b[2]: "current"}, states(t, s))
	_, err = os.Stat(filepath.Join(used.Name(), "etc/x"))
	assert.NoError(t, err)

	for ref, says := range map[string]string{
		"a/" + a[0]: "is in use", "a": "is in use", "b/" + b[1]: "are based on", "b": "are based on", "b/" + b[2]: "is the current one",
		"c": "there is no image c", "b/20010101-000000": "there is no image", "..": "is no image",
	} {
		_, err := s.Remove(ref)
		assert.ErrorContains(t, err, says, ref)
	}
	assert.Len(t, states(t, s), 4)

	used.Close()
	gone, err = s.Prune("a")
	require.NoError(t, err)
	assert.Len(t, gone, 1)
	needs(imagestore.Needs.Now, "b/"+b[2])
	gone, err = s.Remove("b/" + b[1])
	require.NoError(t, err)
	assert.Len(t, gone, 1)
	for _, name := range []string{"a", "b"} {
		_, err = s.Remove(name)
		require.NoError(t, err)
	}
	nothingLeft(t, s)
	_, err = s.Prune("a")
	assert.ErrorContains(t, err, "there is no image a")
}

// TestPruneWhatWasKilled: whatever a verb was at that was killed, prune removes what it has left, and the
// directory of a name that has nothing else.
func TestPruneWhatWasKilled(t *testing.T) {
	s := store(t)
	ids := three(t, s, "deb")
	for _, name := range []string{"deb", "never"} {
		for _, left := range []string{".new-1/etc", ".old-20010101-000000/etc", "20010101-000000.pins"} {
			require.NoError(t, os.MkdirAll(filepath.Join(s.Dir(), name, left), 0o700))
		}
		for _, left := range []string{"20010101-000000.about", "20010101-000000.pins/alice", ".link-20010101-000000"} {
			require.NoError(t, os.WriteFile(filepath.Join(s.Dir(), name, left), nil, 0o600))
		}
	}
	assert.Len(t, states(t, s), 3, "none of it is an image")
	gone, err := s.Prune("")
	require.NoError(t, err)
	assert.Len(t, gone, 2)
	names, err := filepath.Glob(s.Dir() + "/*/*")
	require.NoError(t, err)
	hidden, err := filepath.Glob(s.Dir() + "/*/.*")
	require.NoError(t, err)
	at := filepath.Join(s.Dir(), "deb")
	assert.Equal(t, []string{at + "/" + ids[2], at + "/" + ids[2] + ".about", at + "/current"}, append(names, hidden...))
	assert.NoDirExists(t, filepath.Join(s.Dir(), "never"))
}

// TestMountedInAnImage: to remove an image would remove what somebody has mounted there.
func TestMountedInAnImage(t *testing.T) {
	s := store(t)
	ids := three(t, s, "deb")
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "mine"), nil, 0o600))
	at := filepath.Join(s.Dir(), "deb", ids[0], "etc")
	require.NoError(t, unix.Mount(outside, at, "", unix.MS_BIND, ""))
	defer unix.Unmount(at, unix.MNT_DETACH)
	for _, remove := range []func() ([]imagestore.Image, error){
		func() ([]imagestore.Image, error) { return s.Remove("deb/" + ids[0]) }, func() ([]imagestore.Image, error) { return s.Prune("") },
	} {
		_, err := remove()
		assert.ErrorContains(t, err, at+" is mounted in image deb/"+ids[0]+"; unmount it first")
	}
	_, err := os.Stat(filepath.Join(outside, "mine"))
	assert.NoError(t, err)
}

// TestCopy: a copy is what the image is, hard links, set-uid and times included, and does
// not change with it.
func TestCopy(t *testing.T) {
	s := store(t)
	su := file("bin/su", "su")
	su.Mode, su.Gid = 0o4755, 9
	su.PAXRecords["SCHILY.xattr.user.note"] = "x"
	require.NoError(t, s.Import(job(t, "deb", archiveOf(t, dir("."), dir("bin"), su, hard("bin/su2", "bin/su"), link("out", "/etc"), other('6', "fifo")))))
	at := t.TempDir()
	to := filepath.Join(at, "deb")
	// What copies that were killed have left goes, whatever they were to be, and what another works at stays.
	require.NoError(t, os.MkdirAll(filepath.Join(at, ".deb"+copyMark+"1/etc"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(at, ".other"+copyMark+"3/etc"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(at, ".deb"+copyMark+"2/etc"), 0o755))
	busy, err := os.Open(filepath.Join(at, ".deb"+copyMark+"2"))
	require.NoError(t, err)
	defer busy.Close()
	require.NoError(t, unix.Flock(int(busy.Fd()), unix.LOCK_EX))

	id, err := s.Copy("deb", to)
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(s.root(t, "deb")), id)
	assert.Equal(t, tree(t, s.root(t, "deb")), tree(t, to))
	names, err := os.ReadDir(at)
	require.NoError(t, err)
	require.Len(t, names, 2)
	assert.Equal(t, ".deb"+copyMark+"2", names[0].Name())

	require.NoError(t, os.WriteFile(filepath.Join(to, "bin/su"), []byte("changed"), 0o755))
	text, err := os.ReadFile(filepath.Join(s.root(t, "deb"), "bin/su"))
	require.NoError(t, err)
	assert.Equal(t, "su", string(text))
	_, err = s.Copy("deb", to)
	assert.ErrorContains(t, err, "is there already")
	_, err = s.Copy("other", filepath.Join(at, "other"))
	assert.ErrorContains(t, err, "there is no image other")
	_, err = s.Copy("deb", filepath.Join(at, "nowhere/deb"))
	assert.ErrorContains(t, err, at+"/nowhere is not there; make it first")
}

// TestCopiesAtOnce: no copy takes what another has just begun for what one has left.
func TestCopiesAtOnce(t *testing.T) {
	s := store(t)
	require.NoError(t, s.Import(job(t, "deb", archiveOf(t, dir("."), file("x", "x")))))
	at := t.TempDir()
	done := make(chan struct{})
	var sweeping sync.WaitGroup
	sweeping.Go(func() { // as the beginning of a copy does, without end
		for {
			select {
			case <-done:
				return
			default:
				left, _ := filepath.Glob(at + "/.*" + copyMark + "*")
				for _, p := range left {
					_ = imagestore.RemoveUnlocked(p)
				}
			}
		}
	})
	for range 1000 {
		f, err := imagestore.MakeLocked(at, ".deb"+copyMark)
		require.NoError(t, err)
		assert.DirExists(t, f.Name())
		require.NoError(t, os.Remove(f.Name()))
		f.Close()
	}
	for i := range 5 {
		to := filepath.Join(at, strconv.Itoa(i))
		_, err := s.Copy("deb", to)
		require.NoError(t, err)
		assert.FileExists(t, filepath.Join(to, "x"))
	}
	close(done)
	sweeping.Wait()
	left, err := os.ReadDir(at)
	require.NoError(t, err)
	assert.Len(t, left, 5)
}

// TestCopyKilled: the program that copies ends with the one that has started it, and what they leave goes
// with the next copy, not before.
func TestCopyKilled(t *testing.T) {
	s := store(t)
	require.NoError(t, s.Import(job(t, "deb", archiveOf(t, dir("."), file("x", "x")))))
	at, bin := t.TempDir(), t.TempDir()
	pidFile := filepath.Join(bin, "pid")
	// A cp that is in no hurry, also to end.
	require.NoError(t, os.WriteFile(filepath.Join(bin, "cp"), []byte("#!/bin/sh\ntrap 'while [ -e "+bin+"/stay ]; do sleep 0.1; done; exit 1' TERM\necho $$ >"+pidFile+".new\nmv "+pidFile+".new "+pidFile+"\n"+
		"while :; do sleep 0.1; done\n"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(bin, "stay"), nil, 0o600))
	victim := exec.Command(os.Args[0], "-test.run=^TestCopyKilledVictim$")
	victim.Env = append(os.Environ(), "JAIL_TEST_KILLED="+s.Dir(), "JAIL_TEST_COPY="+filepath.Join(at, "one"), "PATH="+bin+":"+os.Getenv("PATH"))
	require.NoError(t, victim.Start())
	var pid int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(pidFile)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	pidfd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)
	defer unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	require.NoError(t, victim.Process.Kill())
	_ = victim.Wait()
	left := func() []string {
		names, _ := filepath.Glob(filepath.Join(at, ".*"))
		return names
	}
	_, err = s.Copy("deb", filepath.Join(at, "two"))
	require.NoError(t, err)
	assert.Len(t, left(), 1, "somebody writes there")
	require.NoError(t, os.Remove(filepath.Join(bin, "stay")))
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 20_000)
	require.NoError(t, err)
	require.Equal(t, 1, n, "cp has not ended")
	_, err = s.Copy("deb", filepath.Join(at, "three"))
	require.NoError(t, err)
	assert.Empty(t, left())
}

// TestCopyKilledVictim is the process that TestCopyKilled kills.
func TestCopyKilledVictim(t *testing.T) {
	to := os.Getenv("JAIL_TEST_COPY")
	if to == "" {
		return
	}
	s, err := OpenStore(os.Getenv("JAIL_TEST_KILLED"))
	require.NoError(t, err)
	_, err = s.Copy("deb", to)
	require.NoError(t, err)
}

// TestCopyToAFullDisk leaves nothing.
func TestCopyToAFullDisk(t *testing.T) {
	s := store(t)
	require.NoError(t, s.Import(job(t, "deb", archiveOf(t, file("x", string(make([]byte, 4<<20)))))))
	disk := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"))
	defer unix.Unmount(disk, unix.MNT_DETACH)
	_, err := s.Copy("deb", filepath.Join(disk, "deb"))
	assert.ErrorContains(t, err, "No space left on device")
	names, err := os.ReadDir(disk)
	require.NoError(t, err)
	assert.Empty(t, names)
}

// TestStoreOfOthers: where somebody else can go, set-uid programs of images must not be.
func TestStoreOfOthers(t *testing.T) {
	s := store(t)
	for claim, change := range map[string]func() error{
		"open to others": func() error { return os.Chmod(s.Dir(), 0o755) },
		"another's":      func() error { return os.Chown(s.Dir(), 1000, 0) },
	} {
		require.NoError(t, os.Chmod(s.Dir(), 0o700))
		require.NoError(t, os.Chown(s.Dir(), 0, 0))
		_, err := OpenStore(s.Dir())
		require.NoError(t, err)
		require.NoError(t, change())
		_, err = OpenStore(s.Dir())
		assert.ErrorContains(t, err, "must be a directory of root's that nobody else can enter", claim)
	}
}

// TestBusybox: the host's own makes an image.
func TestBusybox(t *testing.T) {
	s := store(t)
	o := job(t, "box", "")
	o.Busybox = true
	require.NoError(t, s.Import(o))
	root := s.root(t, "box")
	to, err := os.Readlink(filepath.Join(root, "bin/sh"))
	require.NoError(t, err)
	assert.Equal(t, "busybox", to)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(root, "etc/shadow"), &st))
	assert.Equal(t, uint32(unix.S_IFREG|0o600), st.Mode)
	list, err := s.List()
	require.NoError(t, err)
	assert.Equal(t, "busybox", list[0].Source)
}

// TestIsStatic: a program that needs libraries is none to be alone in a root directory.
func TestIsStatic(t *testing.T) {
	text := func(path string) []byte {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return b
	}
	own, err := program()
	require.NoError(t, err)
	assert.True(t, isStatic(text(own)))
	static := text(own)
	assert.False(t, isStatic(static[:80]), "cut off")
	assert.False(t, isStatic(text("/bin/sh")))
	assert.False(t, isStatic([]byte("#!/bin/sh\n")))
	assert.False(t, isStatic(nil))
}
