package provision

import (
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"jail/config/examples"
	"jail/internal/environ"
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

const matchLine = "Match Group " + Group

// blockFor is the block for members of Group and of other groups.
func blockFor(groups []string) string {
	return strings.Replace(examples.SSHD, matchLine+"\n", matchLine+listOf(groups)+"\n", 1)
}

func listOf(groups []string) string {
	list := ""
	for _, g := range groups {
		if g != Group {
			list += "," + g
		}
	}
	return list
}

// ourMatch is a Match as blockFor writes it.
var ourMatch = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^` + matchLine + `((?:,[^\s,]+)*)$`) })

// blockGroups are the other groups that the block in sshd_config(5) text is for, as blockFor has written it;
// what is below its Match may have been changed since. ok is false if there is no such block.
func blockGroups(text string) (groups []string, ok bool) {
	m := ourMatch().FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	if m[1] != "" {
		groups = strings.Split(m[1][1:], ",")
	}
	return groups, true
}

// sendsGroup reports whether a block with a ForceCommand of ours in sshd_config(5) text is for a group,
// by its name or a pattern.
func sendsGroup(text, group string) bool {
	in := false
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.Replace(line, "=", " ", 1))
		if len(f) < 2 {
			continue
		}
		switch {
		case strings.EqualFold(f[0], "Match"):
			in = false
			for i := 1; i+1 < len(f); i += 2 {
				if !strings.EqualFold(f[i], "Group") {
					continue
				}
				for _, p := range strings.Split(f[i+1], ",") {
					in = in || environ.Matches(p, group)
				}
			}
		case in && strings.EqualFold(f[0], "ForceCommand") && strings.Contains(line, "jail-enter"):
			return true
		}
	}
	return false
}

// installed is the block with the paths that an installation has its programs in.
func installed(block, enter string) string {
	prefix := path.Dir(path.Dir(enter))
	return strings.NewReplacer("/usr/bin/jail-enter", enter, "/usr/lib/jail/jail-keys", path.Join(prefix, "lib/jail/jail-keys")).Replace(block)
}
