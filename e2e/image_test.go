package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestImage: an archive of a root directory becomes an image, the image a root directory,
// and people log in to that.
func TestImage(t *testing.T) {
	store := filepath.Join(jailsDir, "images")
	rootfs := filepath.Join(jailsDir, "imported")
	t.Cleanup(func() { require.NoError(t, command("rm", "-rf", "--one-file-system", store, rootfs)) })
	archive := filepath.Join(t.TempDir(), "tree.tar.gz")
	require.NoError(t, command("tar", "-C", busyboxRoot, "--numeric-owner", "-czf", archive, "."))
	image := func(args ...string) result {
		return runCommand(t, exec.Command(initPath, append([]string{"image", "--images", store}, args...)...), nil)
	}
	// On a terminal it shows how far it is, and then no more.
	line := fmt.Sprintf("%s image --images %s import centos %s", initPath, store, archive)
	r := runCommand(t, exec.Command("script", "-qec", line, "/dev/null"), nil)
	require.Zero(t, r.status, "%+v", r)
	assert.Regexp(t, `^(\r\x1b\[K\d+ entries, [0-9.]+ [KM]?i?B)+\r\x1b\[K(jail-init: note: [^\n]+\n)*centos/\d{8}-\d{6}: \d+ entries, [0-9.]+ MiB, now the current one\r\n$`, r.stdout)

	r = image("ls")
	require.Zero(t, r.status, "%+v", r)
	rows := sortedLines(r.stdout)
	require.Len(t, rows, 2)
	assert.Regexp(t, `^IMAGE +ID +STATE +ENTRIES +SIZE +FROM$`, rows[0])
	assert.Regexp(t, `^centos +\d{8}-\d{6} +current +\d+ +[0-9.]+ MiB +`+archive+`$`, rows[1])

	r = image("copy", "centos", rootfs)
	require.Zero(t, r.status, "%+v", r)
	own(t, oneJail("centos", rootfs, `users = ["centos"]`, fmt.Sprintf("uid = %d", centos.id)))
	got := run(t, forced, ask{as: centos, cmd: "id -u; stat -c '%u:%g %a' / /etc/shadow /root; test -O . && echo mine"})
	assert.Equal(t, result{stdout: fmt.Sprintf("%d\n0:0 755\n0:0 600\n0:0 700\nmine\n", centos.id)}, got)
	require.NoError(t, command(initPath, "stop", "centos"))

	// What administrators get wrong is one line with what to do.
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"import", "x", "docker://docker.io/library/alpine"}, 1, "skopeo copy docker://docker.io/library/alpine oci:DIR"},
		{[]string{"import", "x", "/nowhere"}, 1, "image x: open /nowhere: no such file or directory"},
		{[]string{"import", "x"}, 64, "takes a file, a directory, --mmdebstrap SUITE or --busybox, one of them"},
		{[]string{"import", "x", archive, "--busybox"}, 64, "one of them"},
		{[]string{"import", "x", archive, "--max-size", "20Q"}, 64, "must be a number, with K, M, G or T behind it"},
		{[]string{"import", "x", archive, "--max-files", "3"}, 1, "has more than the 3 entries that it may (--max-files)"},
		{[]string{"copy", "centos", rootfs}, 1, rootfs + " is there already"},
		{[]string{"copy", "other", rootfs + "2"}, 1, "there is no image other"},
		{[]string{"use", "centos", "yesterday"}, 1, "is no image"},
		{[]string{"rm"}, 64, "takes other arguments"},
		{[]string{"frobnicate"}, 64, `unknown verb "image frobnicate"`},
		{nil, 64, "Usage: jail-init image"},
	} {
		r := image(c.args...)
		assert.Equal(t, c.status, r.status, "%q", c.args)
		assert.Contains(t, r.stderr, c.says, "%q", c.args)
		assert.Empty(t, r.stdout, "%q", c.args)
	}
	_, err := os.Stat(filepath.Join(store, "x"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	r = image("rm", "centos")
	assert.True(t, r.status == 0 && strings.HasSuffix(r.stdout, "\n"), "%+v", r)
}
