package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// groupsWithin is how long the name service may take to say who is in which groups.
const groupsWithin = 5 * time.Second

// groupsFrom asks the name service which groups logins are in by other sources than the
// files: all that it says of each, in one text. Who it says nothing of makes it an error.
func (a *auditor) groupsFrom(sources, names []string) (map[string]string, error) {
	if a.opt.Root != "" {
		return nil, errors.New("the groups of another host are not known")
	}
	ctx, cancel := context.WithTimeout(context.Background(), groupsWithin)
	defer cancel()
	said := make(map[string]string, len(names))
	for _, source := range sources {
		told := make(map[string]bool, len(names))
		for some := range slices.Chunk(names, 1000) {
			cmd := exec.CommandContext(ctx, "/usr/bin/getent", append([]string{"-s", source, "initgroups", "--"}, some...)...)
			cmd.Env, cmd.Dir, cmd.WaitDelay = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, "/", time.Second
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("getent initgroups: %w", err)
			}
			for line := range strings.Lines(out.String()) {
				f := strings.Fields(line)
				if len(f) == 0 {
					continue
				}
				told[f[0]] = true
				slices.Sort(f[1:])
				if more := strings.Join(f[1:], " "); more != "" {
					said[f[0]] += source + " " + more + "\n"
				}
			}
		}
		for _, n := range names {
			if !told[n] {
				return nil, fmt.Errorf("getent initgroups: nothing is said of %s", n)
			}
		}
	}
	return said, nil
}
