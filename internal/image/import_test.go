package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"jail/internal/needs"
)

// TestImport: what is in an archive is on the disk, with the ids of the archive, modes,
// times, links, attributes and holes.
func TestImport(t *testing.T) {
	s := store(t)
	when := time.Unix(1_000_000_000, 0)
	setuid := file("bin/su", "su")
	setuid.Mode, setuid.Uid, setuid.Gid, setuid.ModTime = 0o4750, 0, 42, when
	capable := file("bin/ping", "ping")
	// cap_net_raw+ep: struct vfs_cap_data, revision 2 (capabilities(7)).
	capable.PAXRecords["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	capable.PAXRecords["SCHILY.xattr.user.note"] = "hello"
	capable.PAXRecords["SCHILY.xattr.trusted.evil"] = "x"
	home := dir("home/u")
	home.Mode, home.Uid, home.Gid, home.ModTime = 0o2700, 65535, 65535, when
	stranger := file("bin/stranger", "x")
	stranger.Mode, stranger.Uid = 0o6755, 70000
	pipe := other(tar.TypeFifo, "pipe")
	pipe.Mode = 0o622
	o := job(t, "tiny", archiveOf(t, dir("./"), dir("bin"), setuid, capable, stranger, home, file("home/u/x", ""), link("motd", "/etc/motd"), hard("su2", "bin/su"),
		pipe, other(tar.TypeBlock, "sda")))
	require.NoError(t, s.Import(o))
	root := s.root(t, "tiny")
	stat := func(name string) (st unix.Stat_t) {
		require.NoError(t, unix.Lstat(filepath.Join(root, name), &st))
		return st
	}
	su := stat("bin/su")
	assert.Equal(t, []uint32{0, 42, unix.S_IFREG | 0o4750}, []uint32{su.Uid, su.Gid, su.Mode})
	assert.Equal(t, when.Unix(), su.Mtim.Sec)
	assert.Equal(t, su.Ino, stat("su2").Ino)
	u := stat("home/u")
	assert.Equal(t, []uint32{65535, 65535, unix.S_IFDIR | 0o2700}, []uint32{u.Uid, u.Gid, u.Mode})
	assert.Equal(t, when.Unix(), u.Mtim.Sec, "a directory's time, though a file was made in it")
	strange := stat("bin/stranger")
	assert.Equal(t, []uint32{65534, 65534, unix.S_IFREG | 0o755}, []uint32{strange.Uid, strange.Gid, strange.Mode})
	assert.Equal(t, uint32(unix.S_IFIFO|0o622), stat("pipe").Mode)
	_, err := os.Lstat(filepath.Join(root, "sda"))
	assert.ErrorIs(t, err, fs.ErrNotExist)

	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(filepath.Join(root, "bin/ping"), "security.capability", buf)
	require.NoError(t, err)
	assert.Equal(t, uint32(0x2000), uint32(buf[4])|uint32(buf[5])<<8, "cap_net_raw, %x", buf[:n])
	n, err = unix.Lgetxattr(filepath.Join(root, "bin/ping"), "user.note", buf)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(buf[:n]))
	_, err = unix.Lgetxattr(filepath.Join(root, "bin/ping"), "trusted.evil", buf)
	assert.ErrorIs(t, err, unix.ENODATA)

	said := o.said(t)
	assert.Contains(t, said, `note: "sda": left out, since a jail has a /dev of its own`)
	assert.Contains(t, said, `note: "bin/stranger": given to uid and gid 65534`)
	assert.Contains(t, said, `note: "bin/ping": extended attributes left out`)
	assert.Contains(t, said, "10 entries, 7 B, now the current one")
	list, err := s.List()
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.True(t, list[0].Current)
	assert.Equal(t, o.Source, list[0].Source)
	assert.EqualValues(t, 10, list[0].Entries)
}

// TestHostileArchives: whatever an archive says, nothing but the new image changes, and
// what cannot be done is said in one line and leaves nothing.
func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	canary := filepath.Join(outside, "canary")
	require.NoError(t, os.WriteFile(canary, []byte("mine"), 0o644))
	before, err := os.Stat(canary)
	require.NoError(t, err)
	deep := []member{dir("0")}
	for i, name := 1, "0"; i < 300; i++ {
		name += "/0"
		deep = append(deep, dir(name))
	}
	// Each link leads deeper than a path can say.
	var hops []member
	for i := range 6 {
		above := ""
		if i > 0 {
			above = fmt.Sprintf("l%d/", i-1)
		}
		long := above + "d" + strings.Repeat("/d", 49)
		hops = append(hops, dir(long), link(fmt.Sprintf("l%d", i), long))
	}
	over := file("x", "two")
	odd := dir("x")
	odd.Mode = 0o10000
	for claim, c := range map[string]struct {
		archive []member
		says    string // "" is success
		there   string // a file that is inside then
	}{
		"..":                              {[]member{dir("."), file("../canary", "evil")}, "its name climbs (..)", ""},
		".. in the middle":                {[]member{dir("a"), file("a/../../canary", "evil")}, "its name climbs (..)", ""},
		"an absolute name":                {[]member{file(canary, "evil")}, "", canary},
		"a link out, then a file":         {[]member{link("x", outside), file("x/canary", "evil")}, "a link above it leads to what is not there", ""},
		"a link to /, then a file":        {[]member{link("x", "/"), file("x/canary", "evil")}, "", "canary"},
		"a climbing link, then a file":    {[]member{link("x", strings.Repeat("../", 40)), file("x/canary", "evil")}, "", "canary"},
		"a chain of links":                {[]member{dir("a"), link("a/b", ".."), link("c", "a/b/.."), link("d", "c/../.."), file("d/canary", "evil")}, "", "canary"},
		"a loop of links":                 {[]member{link("a", "b"), link("b", "a"), file("a/canary", "evil")}, "links above it lead nowhere", ""},
		"a link, then a file of its name": {[]member{link("x", canary), file("x", "evil")}, "", "x"},
		"a hard link out":                 {[]member{hard("x", canary)}, "which is not there", ""},
		"a hard link that climbs":         {[]member{hard("x", "../../canary")}, "its name climbs (..)", ""},
		"a hard link by a link":           {[]member{link("o", outside), hard("x", "o/canary")}, "which is not there", ""},
		"a hard link to a link":           {[]member{link("x", canary), hard("y", "x"), file("y", "evil")}, "", "y"},
		"a hard link to a directory":      {[]member{dir("a"), hard("b", "a")}, "which is a directory", ""},
		"a hard link to itself":           {[]member{file("x", "x"), hard("x", "x")}, "", "x"},
		"a hard link to what it is":       {[]member{dir("a"), link("b", "a"), file("a/x", "x"), hard("a/x", "b/x")}, "", "a/x"},
		"a magic link":                    {[]member{dir("proc"), link("x", "/proc/self/root"), file("x/canary", "evil")}, "a link above it leads to what is not there", ""},
		"what is above is a file":         {[]member{file("x", "x"), file("x/y", "y")}, "what is above it is no directory", ""},
		"a directory, then a file":        {[]member{dir("x"), file("x/y", "y"), file("x", "evil")}, "", "x"},
		"a file twice":                    {[]member{file("x", "one"), over}, "", "x"},
		"the root is a link":              {[]member{link(".", outside)}, "the root directory is no directory", ""},
		"directories without end":         {deep, "lies in more than 256 directories", ""},
		"directories by links":            {hops, "lies in more than 256 directories", ""},
		"a link to nothing":               {[]member{link("x", "")}, "a link to nothing", ""},
		"a whiteout":                      {[]member{file(".wh.etc", "")}, "removes something (.wh.)", ""},
		"a mode of nothing":               {[]member{odd, file("x/y", "y")}, "", "x/y"},
		"only devices":                    {[]member{other(tar.TypeChar, "mem")}, "is empty", ""},
		"a name of 256 bytes":             {[]member{file(strings.Repeat("x", 256), "")}, "file name too long", ""},
		"other than UTF-8, and escapes":   {[]member{file("../\x1b]0;evil\a", "")}, `"../\x1b]0;evil\a": its name climbs`, ""},
	} {
		t.Run(claim, func(t *testing.T) {
			s := store(t)
			o := job(t, "evil", archiveOf(t, c.archive...))
			err := s.Import(o)
			if c.says == "" {
				require.NoError(t, err)
				_, err := os.Lstat(filepath.Join(s.root(t, "evil"), c.there))
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.says)
				assert.NotContains(t, err.Error(), "\n")
				assert.NotContains(t, err.Error(), "\x1b")
				nothingLeft(t, s)
			}
			after, err := os.Stat(canary)
			require.NoError(t, err)
			assert.True(t, os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()) && before.Mode() == after.Mode())
			names, err := os.ReadDir(outside)
			require.NoError(t, err)
			assert.Len(t, names, 1)
		})
	}
}

// nothingLeft: the store is as it was before the first import.
func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.Dir())
	require.NoError(t, err)
	for _, e := range entries {
		assert.Equal(t, ".lock", e.Name())
	}
}

// TestWhatTheUnpackerHas: the process that reads an archive has nothing of the host: its
// root is the new directory, its namespaces are its own, its ids nobody's, and its
// capabilities those that make files.
func TestWhatTheUnpackerHas(t *testing.T) {
	s := store(t)
	o := endless(t, "slow")
	done := make(chan error, 1)
	go func() { done <- s.Import(o) }()
	pid := unpackerOf(t, o.Program)
	own, err := os.Stat("/")
	require.NoError(t, err)
	var status string
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		status = string(text)
		return strings.Contains(status, "CapEff:\t000000008000001b\n") && strings.Contains(status, "Seccomp:\t2\n")
	}, 10*time.Second, 10*time.Millisecond, "capabilities and seccomp")
	assert.Contains(t, status, "CapPrm:\t000000008000001b\n")
	assert.Contains(t, status, "NoNewPrivs:\t1\n")
	assert.Regexp(t, `Uid:\t214(7155968|722150[45]|7287040)\t`, status)
	root, err := os.Stat(fmt.Sprintf("/proc/%d/root/", pid))
	require.NoError(t, err)
	assert.False(t, os.SameFile(own, root))
	for _, ns := range []string{"user", "mnt", "pid", "ipc", "net", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		require.NoError(t, err)
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		require.NoError(t, err)
		assert.NotEqual(t, ours, its)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	require.Len(t, lines, 1, "one mount, the new directory")
	for _, flag := range []string{"nosuid", "nodev", "noexec", "idmapped"} {
		assert.Contains(t, lines[0], flag)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		ok := to == "/dev/null" || to == o.Source || strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "pipe:") ||
			strings.HasPrefix(to, "anon_inode:") || to == "/" || strings.HasPrefix(to, "/x")
		assert.True(t, ok, "descriptor %s is %s", fd.Name(), to)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	require.NoError(t, err)
	assert.Regexp(t, `Max data size +1073741824 +1073741824 `, string(limits))
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	assert.ErrorContains(t, <-done, "has ended without a word")
	nothingLeft(t, s)
}

// zipped is what gzip makes of b.
func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// endless is an import of an archive that takes longer than any test: a file, and a
// member that is left out, of 32 GiB.
func endless(t *testing.T, name string) *Import {
	t.Helper()
	head := tarOf(t, file("half", "made"))
	var b bytes.Buffer
	require.NoError(t, tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: 'Q', Name: "endless", Size: 1 << 40}))
	path := filepath.Join(t.TempDir(), "endless.tar.gz")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write(zipped(append(head[:len(head)-1024], b.Bytes()...)))
	require.NoError(t, err)
	zeros := zipped(make([]byte, 8<<20))
	for range 4096 {
		_, err := f.Write(zeros)
		require.NoError(t, err)
	}
	o := job(t, name, path)
	o.MaxBytes = 1 << 45
	return o
}

// unpackerOf waits for the process that executes program.
func unpackerOf(t *testing.T, program string) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			text, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
			if err == nil && string(text) == "jail-import\x00" {
				exe, _ := os.Stat("/proc/" + e.Name() + "/exe")
				want, err := os.Stat(program)
				if err == nil && exe != nil && os.SameFile(exe, want) {
					_, err := fmt.Sscan(e.Name(), &pid)
					return err == nil
				}
			}
		}
		return false
	}, 20*time.Second, 5*time.Millisecond)
	return pid
}

// TestInterrupted: an import that is ended leaves nothing, and until it is whole there is
// no image.
func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		s := store(t)
		o := endless(t, "slow")
		done := make(chan error, 1)
		go func() { done <- s.Import(o) }()
		half(t, s, "slow")
		list, err := s.List()
		require.NoError(t, err)
		assert.Empty(t, list)
		_, _, err = s.Open("slow")
		assert.ErrorContains(t, err, "there is no image slow")
		require.NoError(t, syscall.Kill(os.Getpid(), sig))
		assert.ErrorIs(t, <-done, ErrInterrupted)
		nothingLeft(t, s)
	}
}

// half waits until an import has made something.
func half(t *testing.T, s *Store, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		made, _ := filepath.Glob(filepath.Join(s.Dir(), name, ".new-"+"*", "half"))
		return len(made) == 1
	}, 20*time.Second, 5*time.Millisecond)
}

func TestTooLong(t *testing.T) {
	s := store(t)
	o := endless(t, "slow")
	o.MaxTime = 300 * time.Millisecond
	assert.ErrorContains(t, s.Import(o), "takes longer than the 300ms that it may (--max-time)")
	nothingLeft(t, s)
}

// TestKilled: jail-import ends with who has started it, and the next import of that name,
// or a prune, removes what is left. One that goes on is let alone.
func TestKilled(t *testing.T) {
	s := store(t)
	o := endless(t, "slow")
	victim := exec.Command(os.Args[0], "-test.run=^TestKilledVictim$")
	victim.Env = append(os.Environ(), "JAIL_TEST_KILLED="+s.Dir(), "JAIL_TEST_SOURCE="+o.Source, "JAIL_TEST_PROGRAM="+o.Program)
	require.NoError(t, victim.Start())
	half(t, s, "slow")
	pid := unpackerOf(t, o.Program)
	pidfd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	defer unix.Close(pidfd)

	gone, err := s.Prune("")
	require.NoError(t, err)
	assert.Empty(t, gone)
	left := func() []string {
		made, _ := filepath.Glob(filepath.Join(s.Dir(), "slow", ".new-"+"*"))
		return made
	}
	assert.Len(t, left(), 1, "it goes on")

	require.NoError(t, victim.Process.Kill())
	_ = victim.Wait()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 20_000)
	require.NoError(t, err)
	require.Equal(t, 1, n, "jail-import has not ended")
	assert.Len(t, left(), 1)
	list, err := s.List()
	require.NoError(t, err)
	assert.Empty(t, list)
	require.NoError(t, s.Import(job(t, "slow", archiveOf(t, file("x", "x")))))
	assert.Empty(t, left())
}

// TestKilledVictim is the process that TestKilled kills.
func TestKilledVictim(t *testing.T) {
	dir := os.Getenv("JAIL_TEST_KILLED")
	if dir == "" {
		return
	}
	s, err := OpenStore(dir)
	require.NoError(t, err)
	// Not by job, which would build a program that nobody removes.
	require.NoError(t, s.Import(&Import{
		Name: "slow", Source: os.Getenv("JAIL_TEST_SOURCE"), Program: os.Getenv("JAIL_TEST_PROGRAM"),
		MaxBytes: 1 << 45, MaxEntries: 1000, MaxTime: time.Minute, Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}

// TestFullDisk: a disk that is full, of bytes or of inodes, leaves nothing.
func TestFullDisk(t *testing.T) {
	needs.Root(t, "to mount")
	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(disk, 0o755))
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=4m,nr_inodes=200"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	s, err := OpenStore(filepath.Join(disk, "images"))
	require.NoError(t, err)
	var many []member
	for i := range 300 {
		many = append(many, dir(fmt.Sprint(i)))
	}
	for claim, c := range map[string][]member{
		"bytes":  {file("a", strings.Repeat("x", 1<<20)), file("b", strings.Repeat("x", 8<<20))},
		"inodes": many,
	} {
		o := job(t, "full", archiveOf(t, c...))
		err := s.Import(o)
		needs.Kernel(t, err == nil || !strings.Contains(err.Error(), "mapped ids"), 6, 3, "tmpfs with mapped ids")
		assert.ErrorContains(t, err, "no space left on device", claim)
		nothingLeft(t, s)
	}
}

// TestSources: what cannot be a source is refused with what to do instead.
func TestSources(t *testing.T) {
	s := store(t)
	empty := t.TempDir()
	for source, says := range map[string]string{
		"docker://docker.io/library/alpine":             "skopeo copy docker://docker.io/library/alpine oci:DIR && jail image import x DIR",
		"docker.io/library/alpine":                      "skopeo copy docker://docker.io/library/alpine oci:DIR && jail image import x DIR",
		"alpine:3.22":                                   "skopeo copy docker://alpine:3.22 oci:DIR && jail image import x DIR",
		"localhost:5000/team/app:1":                     "skopeo copy docker://localhost:5000/team/app:1 oci:DIR",
		"quay.io/x/y@sha256:" + strings.Repeat("0", 64): "skopeo copy docker://quay.io/x/y@sha256:",
		"alpine.tar.gz":                                 "open alpine.tar.gz: no such file or directory",
		"trees/alpine.tar":                              "open trees/alpine.tar: no such file or directory",
		"/srv/it.is/alpine":                             "open /srv/it.is/alpine: no such file or directory",
		"containers-storage:localhost/x":                "skopeo copy containers-storage:localhost/x oci:DIR",
		"oci:nowhere:1":                                 `name it without "oci:" before it`,
		"oci:/nowhere":                                  `name it without "oci:" before it`,
		"https://example.org/rootfs.tar.gz":             "nothing is fetched from the network",
		filepath.Join(empty, "nothing"):                 "no such file or directory",
		empty:                                           "has neither an index.json nor a manifest.json: no image; of a root directory, make an archive first",
		"/dev/zero":                                     "is neither a file nor a directory",
	} {
		err := s.Import(job(t, "x", source))
		assert.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "\n", "one line")
	}
	cut := filepath.Join(empty, "cut.tar")
	require.NoError(t, os.WriteFile(cut, make([]byte, 1000), 0o600))
	assert.ErrorContains(t, s.Import(job(t, "x", cut)), cut+": ", "which file it is")
	for _, name := range []string{"", "..", "a/b", "Debian", ".lock", "-x"} {
		assert.ErrorContains(t, s.Import(job(t, name, empty)), "an image is called by lower-case letters")
	}
	_, err := os.Stat(filepath.Join(s.Dir(), "x"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// TestAnotherMachine: a root directory whose shell is of another architecture.
func TestAnotherMachine(t *testing.T) {
	s := store(t)
	shell := make([]byte, 64)
	copy(shell, "\x7fELF\x02\x01\x01")
	shell[18] = 243
	err := s.Import(job(t, "other", archiveOf(t, file("usr/bin/dash", string(shell)), link("usr/bin/sh", "dash"), link("bin", "usr/bin"))))
	assert.ErrorContains(t, err, "its programs are for riscv64")
	nothingLeft(t, s)
}

// TestSameAsTar: what GNU tar packs, in each of its formats, is here what was packed.
func TestSameAsTar(t *testing.T) {
	s := store(t)
	from := t.TempDir()
	script := `cd "$1"; umask 022
		mkdir -p usr/bin usr/lib "odd/name with
newline" var/empty; ln -s usr/lib lib
		echo hello >usr/bin/x; chmod 4711 usr/bin/x; ln usr/bin/x usr/bin/y; chown 17:65535 usr/lib
		ln -s nowhere dangling; ln -s /etc/passwd absolute; mkfifo fifo; touch -d 2001-01-01 usr/lib "odd/$(printf '\\377')"
		truncate -s 3M holes; printf middle | dd of=holes bs=1 seek=1048576 conv=notrunc status=none; chmod 1777 var/empty
		: >nothing; mkdir -p $(printf 'long%.0s/' $(seq 60)); echo deep >$(printf 'long%.0s/' $(seq 60))file
		touch -d 2001-01-01 .`
	out, err := exec.Command("sh", "-ec", script, "sh", from).CombinedOutput()
	require.NoError(t, err, "%s", out)
	want := tree(t, from)
	require.Greater(t, len(want), 70)
	for format, options := range map[string][]string{
		"gnu": {"--format=gnu"}, "gnu with holes": {"--format=gnu", "-S"}, "posix": {"--format=posix", "--xattrs"},
		"posix 1.0 with holes": {"--format=posix", "-S"}, "posix 0.1 with holes": {"--format=posix", "-S", "--sparse-version=0.1"},
		"gzip": {"-z"}, "xz": {"-J"}, "zstd": {"--zstd"}, "bzip2": {"-j"},
	} {
		t.Run(format, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tree")
			args := append([]string{"-C", from, "--numeric-owner", "-cf", path}, options...)
			out, err := exec.Command("tar", append(args, ".")...).CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NoError(t, s.Import(job(t, "same", path)))
			root := s.root(t, "same")
			assert.Equal(t, want, tree(t, root))
			var st unix.Stat_t
			require.NoError(t, unix.Lstat(filepath.Join(root, "holes"), &st))
			assert.Equal(t, strings.Contains(format, "holes"), st.Blocks*512 < 1<<20, "holes")
		})
	}
}

// tree describes what is in a directory, but for the order and how it is stored.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		what := fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			what += fmt.Sprintf(" %x links %d", sha256.Sum256(text), st.Nlink)
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			require.NoError(t, err)
			what += " " + to
		}
		rel, err := filepath.Rel(root, path)
		require.NoError(t, err)
		all[rel] = what
		return nil
	}))
	return all
}

// TestMemory: what a decompressor wants of memory the process does not have. The second
// block of an xz archive has a dictionary of 4 GiB; that of the first is looked at before.
func TestMemory(t *testing.T) {
	s := store(t)
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w, err := xz.NewWriter(&out)
		require.NoError(t, err)
		_, err = w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	// As archive.checkDictionary has it: a stream header of 12 bytes, then the block's, of
	// which the fifth byte is the size of the dictionary and the last four are a CRC.
	wide := func(b []byte) []byte {
		header := b[12 : 12+(int(b[12])+1)*4]
		header[4] = 40
		end := len(header) - 4
		binary.LittleEndian.PutUint32(header[end:], crc32.ChecksumIEEE(header[:end]))
		return b
	}
	tree := tarOf(t, dir("a"), file("b", "b"))
	path := filepath.Join(t.TempDir(), "tree.tar.xz")
	for _, c := range []struct {
		archive []byte
		says    string
	}{
		{append(zip(tree[:1024]), zip(tree[1024:])...), ""},
		{append(wide(zip(tree[:1024])), zip(tree[1024:])...), "wants a dictionary of 4095 MiB"},
		{append(zip(tree[:1024]), wide(zip(tree[1024:]))...), "memory"},
	} {
		require.NoError(t, os.WriteFile(path, c.archive, 0o600))
		err := s.Import(job(t, "x", path))
		if c.says == "" {
			require.NoError(t, err)
			_, err = s.Remove("x")
			require.NoError(t, err)
			continue
		}
		assert.ErrorContains(t, err, c.says)
		nothingLeft(t, s)
	}
}

// TestRootThatNobodyCanEnter is imported as it is, and said.
func TestRootThatNobodyCanEnter(t *testing.T) {
	s := store(t)
	for _, c := range []struct {
		mode int64
		uid  int
		says string
	}{{0o755, 0, ""}, {0o711, 0, "uid 0, mode 0711"}, {0o700, 0, "uid 0, mode 0700"}, {0o755, 1000, "uid 1000, mode 0755"}} {
		root := dir("./")
		root.Mode, root.Uid = c.mode, c.uid
		o := job(t, "x", archiveOf(t, root, dir("etc")))
		require.NoError(t, s.Import(o))
		if c.says == "" {
			assert.NotContains(t, o.said(t), "note")
		} else {
			assert.Contains(t, o.said(t), "note: the root directory is of "+c.says+": logins other than root can do nothing in it")
		}
	}
}
