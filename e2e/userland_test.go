package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/imagestore"
)

const userlandImage = "e2e-userland"

// importUserland makes an image of an archive or a layout, for the time of a test.
func importUserland(t *testing.T, source string) {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, errors.Join(os.RemoveAll(filepath.Join(imagestore.DefaultDir, userlandImage)), os.RemoveAll(basedStates)))
	})
	r := runCommand(t, exec.Command(initPath, "image", "import", userlandImage, source), nil)
	require.Zero(t, r.status, "%+v", r)
}

// aliceInside is a serve with a jail based on that image, in which the login centos is the
// image's account alice.
func aliceInside(t *testing.T) *server {
	t.Helper()
	state := filepath.Join(basedStates, "userland")
	require.NoError(t, os.MkdirAll(basedStates, 0o700))
	stateHome(t, state, "alice", 1000)
	s, err := serve(registry{
		text:  fmt.Sprintf("version = 1\n[jail.userland]\nbase = %q\nstate = %q\n[jail.userland.users.centos]\nname = \"alice\"\nuid = 1000\n", userlandImage, state),
		jails: []string{"userland"}, users: []account{centos},
	})
	require.NoError(t, err)
	return s
}

// layoutOf makes an OCI layout of layers, as skopeo writes it.
func layoutOf(t *testing.T, layers ...string) string {
	t.Helper()
	dir := t.TempDir()
	var names, sums []string
	for i, layer := range layers {
		names = append(names, fmt.Sprintf("%q", fmt.Sprintf("%d.tar", i)))
		text, err := os.ReadFile(layer)
		require.NoError(t, err)
		require.NoError(t, os.Link(layer, filepath.Join(dir, fmt.Sprintf("%d.tar", i))))
		sums = append(sums, fmt.Sprintf(`"sha256:%x"`, sha256.Sum256(text)))
	}
	for name, text := range map[string]string{
		"config.json":   fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}`, runtime.GOARCH, strings.Join(sums, ",")),
		"manifest.json": fmt.Sprintf(`[{"Config":"config.json","RepoTags":["userland:1"],"Layers":[%s]}]`, strings.Join(names, ",")),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	archive := filepath.Join(dir, "docker.tar")
	require.NoError(t, command("sh", "-c", "cd "+dir+" && tar -cf docker.tar *.json [0-9]*.tar"))
	layout := filepath.Join(dir, "layout")
	require.NoError(t, command("skopeo", "--insecure-policy", "copy", "--quiet", "docker-archive:"+archive, "oci:"+layout+":1"))
	return layout
}

// packed is a tree as an archive.
func packed(t *testing.T, tree, name string) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), name)
	require.NoError(t, command("tar", "-C", tree, "--xattrs", "--xattrs-include=security.capability", "--numeric-owner", "-caf", archive, "."))
	return archive
}

// TestAlpineLike: a system of musl and busybox, as a tarball and as an image of two layers
// in an OCI layout, is one that people log in to.
func TestAlpineLike(t *testing.T) {
	alone(t)
	tree := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, command("bash", "testdata/userland/alpine.sh", tree))
	system := packed(t, tree, "system.tar")
	require.NoError(t, command("bash", "testdata/userland/alpine-user.sh", tree))
	account := filepath.Join(t.TempDir(), "account.tar")
	require.NoError(t, command("tar", "-C", tree, "--numeric-owner", "-cf", account, "etc/passwd", "etc/group", "etc/shadow", "home/alice"))
	for _, source := range []string{packed(t, tree, "rootfs.tar.gz"), layoutOf(t, system, account)} {
		t.Run(filepath.Base(source), func(t *testing.T) {
			importUserland(t, source)
			s := aliceInside(t)
			defer func() { require.NoError(t, s.stop()) }()
			for cmd, want := range map[string]string{
				"lookup": "alice /home/alice /bin/ash wheel alice 1000 localhost\n",
				"id":     "uid=1000(alice) gid=1000(alice) groups=10(wheel),1000(alice)\n",
				"cat /etc/alpine-release; readlink /bin/ls; echo $PWD $SHELL": "3.22.0\n/bin/busybox\n/home/alice /bin/ash\n",
				"stat -c %a:%u:%g /bin/bbsuid /etc/shadow /var/empty /tmp":    "4111:0:0\n640:0:42\n555:0:0\n1777:0:0\n",
				"/bin/bbsuid": "alice /home/alice /bin/ash wheel alice 0 localhost\n",
				"test -e /bin/su && test ! -e /usr/bin/sudo && test ! -e /etc/doas.conf && test ! -e /bin/bash && echo ash": "ash\n",
			} {
				assert.Equal(t, result{stdout: want}, run(t, forced, ask{as: centos, cmd: cmd}), cmd)
			}
			// A login shell, with the profile and its directory.
			got := run(t, forced, ask{as: centos, shell: true, stdin: "echo $0 $CHARSET $PAGER; umask\n"})
			assert.Equal(t, result{stdout: "-ash UTF-8 less\n0022\n"}, got)
			// And files are brought, where the system has no sftp server.
			up := runCommand(t, exec.Command("scp", "-F", sshDir+"/config", "-o", "ProxyCommand="+strings.Join(sshd(forced, world.scratch), " "),
				"/etc/hostname", forced.user(centos)+"@"+string(forced)+":"), nil)
			require.Zero(t, up.status, "%+v", up)
			assert.Equal(t, contents("/etc/hostname"), run(t, forced, ask{as: centos, cmd: "cat hostname"}).stdout)
		})
	}
}

// TestRPMBased: a system that rpm has installed, with its database, its scripts and a
// capability of a file, is one that people log in to, and ask what is installed.
func TestRPMBased(t *testing.T) {
	alone(t)
	tree := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.Mkdir(tree, 0o755))
	require.NoError(t, command("bash", "testdata/userland/rpm.sh", tree, t.TempDir()))
	importUserland(t, packed(t, tree, "rootfs.tar.gz"))
	s := aliceInside(t)
	defer func() { require.NoError(t, s.stop()) }()
	for cmd, want := range map[string]string{
		"id":                                  "uid=1000(alice) gid=1000(alice) groups=1000(alice),10(wheel)\n",
		"rpm -qa --qf '%{NAME}\\n'":           "filesystem\nlibraries\nbash\ncoreutils\nrpm\n",
		"rpm -qf /bin/ls --qf '%{NAME}\\n'":   "coreutils\n",
		"rpm -q --whatprovides /bin/sh":       "bash-1-1." + rpmMachine(t) + "\n",
		"rpm -V bash coreutils libraries rpm": "",
		"cat /etc/shadow 2>/dev/null || peek /etc/shadow >/dev/null && echo by a capability": "by a capability\n",
		"stat -c %a /root /proc /etc/shadow; pwd":                                            "550\n555\n0\n/home/alice\n",
		"test -e /etc/ld.so.cache && echo by a script":                                       "by a script\n",
	} {
		assert.Equal(t, result{stdout: want}, run(t, forced, ask{as: centos, cmd: cmd}), cmd)
	}
	got := run(t, forced, ask{as: centos, shell: true, stdin: "echo $0 $BASH\n"})
	assert.Equal(t, result{stdout: "-bash /bin/bash\n"}, got)
}

func rpmMachine(t *testing.T) string {
	return strings.TrimSpace(contentsOf(t, "rpm --eval %_arch"))
}
