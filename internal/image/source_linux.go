package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scratch returns a file in the store that has no name, and so is gone with its last
// descriptor.
func scratch(s *Store) (*os.File, error) {
	fd, err := unix.Open(s.Dir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", s.Dir(), err)
	}
	return os.NewFile(uintptr(fd), "archive"), nil
}

// forReading opens a scratch file again: what jail-import gets, nobody can write through.
func forReading(f *os.File) (*os.File, error) {
	defer f.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
}

// mmdebstrap has mmdebstrap(1) make an archive.
func (o *Import) mmdebstrap(s *Store, stop *stop) (*os.File, error) {
	program, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return nil, errors.New("mmdebstrap is not installed: apt-get install mmdebstrap")
	}
	if strings.HasPrefix(o.Mmdebstrap, "-") {
		return nil, fmt.Errorf("--mmdebstrap %s: must be the name of a release, like bookworm", o.Mmdebstrap)
	}
	f, err := scratch(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "--format=tar", o.Mmdebstrap, "-")
	cmd.Stdout, cmd.Stderr = f, o.Stderr
	if err := stop.run(cmd); err != nil {
		f.Close()
		if errors.Is(err, ErrInterrupted) {
			return nil, err
		}
		return nil, fmt.Errorf("mmdebstrap %s: %w", o.Mmdebstrap, err)
	}
	return forReading(f)
}

// busyboxTree makes an archive of a root directory with the host's busybox in it and
// nothing else: enough for a shell, and to try things.
func busyboxTree(s *Store) (*os.File, error) {
	program, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New("busybox is not installed: apt-get install busybox-static")
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	if !isStatic(text) {
		return nil, fmt.Errorf("%s needs libraries; install one that does not: apt-get install busybox-static", program)
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", program, err)
	}
	f, err := scratch(s)
	if err != nil {
		return nil, err
	}
	if err := writeBusybox(f, text, strings.Fields(string(list))); err != nil {
		f.Close()
		return nil, err
	}
	return forReading(f)
}

// isStatic reports whether a program, of which text is the file, needs nothing but
// itself: none of its program headers names an interpreter (elf(5), PT_INTERP). Package
// debug/elf would say the same, with a decompressor and a reader of debug symbols.
func isStatic(text []byte) bool {
	const (
		class64, little = 2, 1
		interp          = 3
	)
	if len(text) < 64 || string(text[:4]) != "\x7fELF" || text[4] != class64 || text[5] != little {
		return false
	}
	at, size, n := binary.LittleEndian.Uint64(text[32:]), uint64(binary.LittleEndian.Uint16(text[54:])), binary.LittleEndian.Uint16(text[56:])
	for range n {
		if at > uint64(len(text)) || uint64(len(text))-at < 4 || binary.LittleEndian.Uint32(text[at:]) == interp {
			return false
		}
		at += size
	}
	return n > 0
}

// writeBusybox writes the archive.
func writeBusybox(to io.Writer, busybox []byte, applets []string) error {
	w := tar.NewWriter(to)
	now := time.Now().Truncate(time.Second)
	add := func(h tar.Header, content []byte) error {
		h.Size, h.ModTime = int64(len(content)), now
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := io.Copy(w, bytes.NewReader(content))
		return err
	}
	dirs := []struct {
		name string
		mode int64
	}{
		{".", 0o755}, {"bin", 0o755}, {"dev", 0o755}, {"etc", 0o755}, {"home", 0o755}, {"proc", 0o755}, {"root", 0o700}, {"run", 0o755},
		{"sys", 0o755}, {"tmp", 0o1777}, {"usr", 0o755}, {"usr/bin", 0o755}, {"var", 0o755}, {"var/tmp", 0o1777},
	}
	for _, d := range dirs {
		if err := add(tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode}, nil); err != nil {
			return err
		}
	}
	files := []struct {
		name, text string
		mode       int64
	}{
		{"bin/busybox", string(busybox), 0o755},
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644},
		{"etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n", 0o644},
		{"etc/shadow", "root:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n", 0o600},
		{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n", 0o644},
		{"etc/resolv.conf", "", 0o644}, // a place to show the host's at
		{"etc/profile", "export PS1='\\u@\\h:\\w\\$ '\n", 0o644},
	}
	for _, f := range files {
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode}, []byte(f.text)); err != nil {
			return err
		}
	}
	for _, a := range applets {
		if a == "busybox" || a != path.Base(a) {
			continue
		}
		if err := add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777}, nil); err != nil {
			return err
		}
	}
	return w.Close()
}
