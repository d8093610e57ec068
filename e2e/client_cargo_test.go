package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// cargo is a tree of files that clients carry to and fro.
type cargo int

const (
	files cargo = 0         // contents, modes, times; names a shell stumbles over
	links cargo = 1 << iota // symbolic and hard ones
	wild                    // names with newlines, and bytes that are no text
)

// cargoTime is when every file of a cargo was last changed.
var cargoTime = time.Unix(1_000_000_000, 0)

// load makes a cargo with that name in the client's directory.
func (s *site) load(name string, kind cargo) string {
	s.t.Helper()
	top := s.local(name)
	check := func(err error) { s.t.Helper(); require.NoError(s.t, err) }
	check(os.MkdirAll(filepath.Join(top, "sub dir/deeper"), 0o755))
	check(os.Mkdir(filepath.Join(top, "empty dir"), 0o750))
	check(os.Mkdir(filepath.Join(top, "shut"), 0o700))
	files := map[string]struct {
		text string
		mode os.FileMode
	}{
		"plain":                   {"plain\n", 0o644},
		"empty":                   {"", 0o600},
		"run":                     {"#!/bin/sh\nexit 3\n", 0o755},
		"read only":               {"r\n", 0o444},
		"shut/group":              {"g\n", 0o640},
		"sub dir/it's":            {"apostrophe\n", 0o644},
		`sub dir/"quoted" $HOME`:  {"quotes\n", 0o644},
		"sub dir/deeper/-rf":      {"dash\n", 0o644},
		"sub dir/deeper/größe €":  {"text\r\n\x00\xff\n", 0o644},
		"sub dir/deeper/;`id`&":   {"shell\n", 0o644},
		"sub dir/deeper/noise":    {"", 0o644},
		"sub dir/deeper/ spaces ": {"spaces\n", 0o644},
	}
	if kind&wild != 0 {
		files["sub dir/new\nline"] = files["plain"]
		files["sub dir/deeper/tab\tand\x01bell\a"] = files["plain"]
		files["sub dir/deeper/latin\xe9"] = files["plain"]
		files[`sub dir/back\slash*?[x]`] = files["plain"]
	}
	for name, f := range files {
		check(os.WriteFile(filepath.Join(top, name), []byte(f.text), 0o600))
		check(os.Chmod(filepath.Join(top, name), f.mode))
	}
	f, err := os.OpenFile(filepath.Join(top, "sub dir/deeper/noise"), os.O_WRONLY, 0)
	check(err)
	_, err = io.Copy(f, noise(700_001))
	check(err)
	check(f.Close())
	if kind&links != 0 {
		check(os.Symlink("plain", filepath.Join(top, "link")))
		check(os.Symlink("../sub dir", filepath.Join(top, "shut/up")))
		check(os.Symlink("/no/such file\n", filepath.Join(top, "dangling")))
		check(os.Link(filepath.Join(top, "plain"), filepath.Join(top, "sub dir/hard")))
	}
	check(filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		return os.Chtimes(path, cargoTime, cargoTime)
	}))
	return top
}

// manifest describes the tree at a path: names, types, modes, contents, what
// is the same file and where links lead; and for files, with times, when they
// were changed.
func manifest(top string, times bool) string {
	var b strings.Builder
	first := make(map[uint64]string)
	err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %v", name, info.Mode())
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&b, " -> %q", target)
		case info.Mode().IsRegular():
			stat := info.Sys().(*syscall.Stat_t)
			if other, ok := first[stat.Ino]; ok {
				fmt.Fprintf(&b, " = %q", other)
			} else {
				first[stat.Ino] = name
			}
			fmt.Fprintf(&b, " %d %.16s", info.Size(), fileSum(path))
			if times {
				fmt.Fprintf(&b, " %d", info.ModTime().Unix())
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		fmt.Fprintf(&b, "%v\n", err)
	}
	return b.String()
}

func fileSum(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	return sum(f)
}

// arrived notes whether a tree in the far directory is the one that was sent,
// and belongs to the login.
func (s *site) arrived(sent, name string, times bool) {
	s.equal("tree "+name+", there", manifest(sent, times), manifest(s.remote(name), times))
	owners := ""
	filepath.WalkDir(s.remote(name), func(path string, _ fs.DirEntry, err error) error {
		if info, err := os.Lstat(path); err == nil {
			if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != s.account().id || int(stat.Gid) != s.account().id {
				owners += fmt.Sprintf("%q belongs to %d:%d; ", path, stat.Uid, stat.Gid)
			}
		}
		return nil
	})
	s.equal("owners of "+name, "", owners)
}

// returned notes whether what came back is what was sent.
func (s *site) returned(sent, name string, times bool) {
	s.equal("tree "+name+", back", manifest(sent, times), manifest(s.local(name), times))
}
