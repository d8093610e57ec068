package hostfiles

import (
	"io"
	"os"
	"strings"

	"jail/internal/environ"
)

// Zone is a time zone.
type Zone struct {
	Name string // of the tz database; "" if the host does not say it
	Rule string // what TZ says without a database (tzset(3)); "" if not known
	Sum  uint64 // environ.Sum of its file
}

// ReadZone returns the zone of that name, or with "" the host's own. What cannot be
// found out is left empty; a host without /etc/localtime is on UTC (tzset(3)).
func ReadZone(name string) Zone { return readZone("", name) }

// readZone is ReadZone for the host whose root directory is root.
func readZone(root, name string) Zone {
	const database, local = "/usr/share/zoneinfo/", "/etc/localtime"
	path := local
	z := Zone{Name: name}
	if name != "" {
		path = database + name
	} else if target, err := os.Readlink(root + local); err == nil {
		z.Name = environ.ZoneOfLink(target)
	}
	text, err := readFile(root+path, environ.MaxZoneFile)
	switch {
	case err == nil:
		z.Rule, z.Sum = environ.ZoneRule(text), environ.Sum(text)
	case name == "" && os.IsNotExist(err):
		z.Name, z.Rule = "UTC", "UTC0"
	}
	if z.Name == "" {
		// A copy in the place of the link. Debian notes its name beside it, which
		// is to be believed only if it is the same.
		note, _ := readFile(root+"/etc/timezone", 256)
		name := strings.TrimSpace(string(note))
		if environ.ZoneName(name) {
			if text, err := readFile(root+database+name, environ.MaxZoneFile); err == nil && environ.Sum(text) == z.Sum {
				z.Name = name
			}
		}
	}
	return z
}

// readFile reads a file of the host of at most max bytes.
func readFile(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(text)) > max {
		err = &os.PathError{Op: "read", Path: path, Err: os.ErrInvalid}
	}
	return text, err
}
