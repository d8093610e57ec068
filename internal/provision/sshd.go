package provision

import (
	"path"
	"path/filepath"
	"strings"
)

// sshd's configuration as text: where the block for jails goes, and whether it is there.

const (
	beginMark = "# What follows is from \"jail setup\"; \"jail setup --undo\" takes it out.\n"
	endMark   = "# This was from \"jail setup\".\n"
)

// includes reports whether sshd_config(5) text, a file in dir, reads file for everybody: by an Include
// that stands before any Match.
func includes(text, dir, file string) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) == 0 {
			continue
		}
		switch strings.ToLower(f[0]) {
		case "match":
			return false
		case "include":
			for _, pattern := range f[1:] {
				pattern = strings.Trim(pattern, `"`)
				if strings.HasPrefix(pattern, "#") {
					break
				}
				if !path.IsAbs(pattern) {
					pattern = path.Join(dir, pattern)
				}
				if ok, err := filepath.Match(pattern, file); ok && err == nil {
					return true
				}
			}
		}
	}
	return false
}

// forces reports whether sshd_config(5) text sends anybody into a jail.
func forces(text string) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) > 1 && strings.EqualFold(f[0], "ForceCommand") && strings.Contains(line, "jail-enter") {
			return true
		}
	}
	return false
}

// withBlock is sshd_config(5) text with the block behind it. A Match ends where the next one begins.
func withBlock(text, block string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + beginMark + strings.TrimRight(block, "\n") + "\n" + endMark
}

// withoutBlock is text without what withBlock has added.
func withoutBlock(text string) string {
	before, rest, ok := strings.Cut(text, beginMark)
	if !ok {
		return text
	}
	_, after, ok := strings.Cut(rest, endMark)
	if !ok {
		return text
	}
	return before + after
}

// installed is the block with the paths that an installation has its programs in.
func installed(block, enter string) string {
	prefix := path.Dir(path.Dir(enter))
	return strings.NewReplacer("/usr/bin/jail-enter", enter, "/usr/lib/jail/jail-keys", path.Join(prefix, "lib/jail/jail-keys")).Replace(block)
}
