package audit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

func TestResolver(t *testing.T) {
	for claim, c := range map[string]struct {
		make func(etc string) error
		own  bool
		want string
	}{
		"a file": {func(etc string) error { return os.WriteFile(etc+"/resolv.conf", nil, 0o644) }, false, ""},
		"a link to one": {func(etc string) error {
			os.WriteFile(etc+"/other", nil, 0o644)
			return os.Symlink("/etc/other", etc+"/resolv.conf")
		}, false, ""},
		"nothing": {func(string) error { return nil }, false, "is missing, or a link to nothing"},
		"a link to nothing": {func(etc string) error {
			return os.Symlink("../run/systemd/resolve/stub-resolv.conf", etc+"/resolv.conf")
		}, false, "is missing, or a link to nothing"},
		"a link to the host": {func(etc string) error { return os.Symlink("../../../../../../../etc/passwd", etc+"/resolv.conf") }, false, "is missing, or a link to nothing"},
		"a directory":        {func(etc string) error { return os.Mkdir(etc+"/resolv.conf", 0o755) }, false, "is not a regular file"},
		"not wanted":         {func(string) error { return nil }, true, ""},
	} {
		root := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(root, "srv/web/etc"), 0o755))
		require.NoError(t, c.make(filepath.Join(root, "srv/web/etc")), claim)
		a := &auditor{}
		a.checkResolver(&jail.Spec{Name: "web", Source: jail.Source{Path: root + "/srv/web"}, OwnResolver: c.own})
		if c.want == "" {
			assert.Empty(t, a.drafts, claim)
			continue
		}
		if assert.Len(t, a.drafts, 1, claim) {
			assert.Contains(t, a.drafts[0].What, c.want, claim)
			assert.Contains(t, a.grouped()[0].Fix, "jail exec web sh -c ", claim)
		}
	}
}
