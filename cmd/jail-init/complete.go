package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"jail/config"
	"jail/internal/admin"
	"jail/internal/imagestore"
	"jail/internal/inforce"
)

// completeVerb answers what may stand next on a command line, for the shells' completions
// (packaging/completions); it is not for people. There is no table of verbs for it: the usage text
// is the table.
const completeVerb = "complete"

// completeWithin bounds how long a shell waits: a name service may be asked for the accounts of
// a registry that no serve has read.
const completeWithin = time.Second

// grammar is a verb as the usage text has it.
type grammar struct {
	about string
	slots [][]string        // at each place behind the verb: words as they are, and PLACEHOLDERs
	flags map[string]string // with what follows one, "" for nothing
}

var (
	// A line of a verb begins four blanks in; where a synopsis goes on, it is eight, and where
	// its words do, more.
	usageVerb = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ {4}([a-z]\S*)(.*)$`) })
	usageMore = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ {8}([\[-].*)$`) })
	usageFlag = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:^|[\s\[])--?([a-z][a-z-]*)(?: ([A-Z0-9][A-Za-z0-9=]*))?`)
	})
)

// readUsage makes the table of verbs of a usage text.
func readUsage(text string) map[string]*grammar {
	verbs := map[string]*grammar{}
	var g *grammar
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		synopsis := ""
		if m := usageVerb().FindStringSubmatch(line); m != nil {
			if g = verbs[m[1]]; g == nil {
				g = &grammar{flags: map[string]string{}}
				verbs[m[1]] = g
			}
			synopsis = m[2]
		} else if m := usageMore().FindStringSubmatch(line); m != nil {
			synopsis = m[1]
		} else if g == nil || !strings.HasPrefix(line, "          ") {
			g = nil
			continue
		}
		synopsis, about, found := strings.Cut(strings.TrimRight(synopsis, " "), "  ")
		if !found && strings.HasPrefix(line, "          ") {
			about = line
		}
		if g.about == "" {
			g.about = strings.TrimSpace(about)
		}
		for _, m := range usageFlag().FindAllStringSubmatch(line, -1) {
			if g.flags[m[1]] == "" {
				g.flags[m[1]] = m[2]
			}
		}
		g.place(synopsis)
	}
	return verbs
}

// place adds what stands behind the verb and is no flag.
func (g *grammar) place(synopsis string) {
	words := strings.Fields(strings.NewReplacer("[", " ", "]", " ", "...", " ", "|", " | ").Replace(synopsis))
	at, literal, or := -1, -1, false
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "|":
			or = true
			continue
		case strings.HasPrefix(w, "-"):
			if name := strings.TrimLeft(w, "-"); name != "" && g.flags[name] != "" {
				i++ // its value
				for i+2 < len(words) && words[i+1] == "|" && words[i+2] == "-" {
					i += 2
				}
			}
			or = false
			continue
		case w == strings.ToLower(w): // a word as it is: in one row with others, each with what follows it
			if literal < 0 {
				literal = at + 1
			}
			at = literal
		case !or || at < 0:
			at++
		}
		or = false
		for len(g.slots) <= at {
			g.slots = append(g.slots, nil)
		}
		g.slots[at] = append(g.slots[at], w)
	}
}

// candidates returns what may stand for the last of words, which may be empty, on the command
// line of this program, each perhaps with a tab and what it is; and whether files may.
// names looks for names that begin so, of what a placeholder stands for.
func candidates(words []string, names func(placeholder, prefix string) []string) (found []string, files bool) {
	last := words[len(words)-1]
	verbs := readUsage(usage)
	global := map[string]string{}
	for _, m := range usageFlag().FindAllStringSubmatch(usage[:strings.Index(usage, "\n")], -1) {
		global[m[1]] = m[2]
	}
	g, flags, place, value := (*grammar)(nil), global, 0, ""
	for _, w := range words[:len(words)-1] {
		switch {
		case value != "":
			value = ""
		case strings.HasPrefix(w, "-") && w != "-":
			name, _, given := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if !given {
				value = flags[name]
			}
		case verbs != nil:
			if g = verbs[w]; g == nil {
				return nil, false
			}
			if verbs = nil; w == "image" {
				verbs = readUsage(imageUsage)
				names = func(_, prefix string) []string { return imageNames(prefix) }
			}
			flags = maps.Clone(g.flags)
			maps.Copy(flags, global)
		default:
			if g == readsCommand(g) {
				return nil, true
			}
			place++
		}
	}
	stands := func(placeholders []string) {
		for _, p := range placeholders {
			switch {
			case p == "FILE" || p == "DIR" || p == "ROOTFS" || p == "SHELL":
				files = true
			case p == "VERB":
				found = slices.AppendSeq(found, maps.Keys(readUsage(usage)))
			case p == strings.ToLower(p):
				found = append(found, p)
			default:
				found = append(found, names(p, last)...)
			}
		}
	}
	switch {
	case value != "":
		stands([]string{value})
	case strings.HasPrefix(last, "-"):
		for f := range flags {
			if len(f) == 1 {
				found = append(found, "-"+f)
			} else {
				found = append(found, "--"+f)
			}
		}
	case verbs != nil:
		for v, g := range verbs {
			found = append(found, v+"\t"+g.about)
		}
	case place < len(g.slots):
		stands(g.slots[place])
	}
	found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, last) || s == "" || s == "-" })
	slices.Sort(found)
	return slices.Compact(found), files
}

// readsCommand returns g if what follows its first place is a command with words of its own.
func readsCommand(g *grammar) *grammar {
	if len(g.slots) > 1 && slices.Contains(g.slots[1], "COMMAND") {
		return g
	}
	return nil
}

func imageNames(prefix string) []string {
	dirs, _ := filepath.Glob(filepath.Join(imagestore.DefaultDir, "[a-z_]*"))
	var found []string
	for _, d := range dirs {
		if name := filepath.Base(d); strings.HasPrefix(name, prefix) {
			found = append(found, name)
		}
	}
	return found
}

// complete prints whether files may stand for the last of words, and a line for each thing
// that may.
func (c *common) complete(words []string) error {
	if len(words) == 0 {
		return usageError("complete takes the words of a command line")
	}
	time.AfterFunc(completeWithin, func() { os.Exit(exitFailure) })
	for i, w := range words[:len(words)-1] {
		switch strings.TrimLeft(w, "-") {
		case "config":
			c.config = words[i+1]
		case "runtime-dir":
			c.runtimeDir = words[i+1]
		}
	}
	found, files := candidates(words, c.names)
	if files {
		fmt.Println(":files")
	} else {
		fmt.Println(":words")
	}
	for _, f := range found {
		fmt.Println(f)
	}
	return nil
}

// names returns the jails or logins that begin with prefix.
func (c *common) names(placeholder, prefix string) []string {
	if placeholder == "KEY=VALUE" {
		var found []string
		for _, key := range config.LimitKeys {
			found = append(found, key+"=")
		}
		return found
	}
	logins := placeholder == "LOGIN"
	if !logins && placeholder != "NAME" && placeholder != "JAIL" {
		return nil
	}
	var found []string
	if f, err := inforce.Open(c.runtimeDir, c.config); err == nil {
		defer f.Close()
		found, _ = f.Names(logins, prefix)
	} else if reg, _ := config.Load(c.config, config.Options{RuntimeDir: c.runtimeDir, SkipPlaces: true}); reg != nil {
		add := func(jail string, login string) {
			if logins {
				jail = login
			}
			found = append(found, jail)
		}
		for i := range reg.Jails {
			for _, l := range reg.Jails[i].Logins {
				add(reg.Jails[i].Name, l.Name)
			}
		}
		for i := range reg.Faults { // what is out of service has to be named, too
			add(reg.Faults[i].Jail, "")
			for _, l := range reg.Faults[i].Logins {
				add(reg.Faults[i].Jail, l.Name)
			}
		}
	}
	if !logins {
		found = append(found, admin.Running(c.admin())...)
	}
	return found
}
