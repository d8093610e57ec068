package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
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
		"rpm -qf /bin/ls --qf '%{NAME}\\n'":   "coreutils\n",
		"rpm -q --whatprovides /bin/sh":       "bash-1-1." + rpmMachine(t) + "\n",
		"rpm -V bash coreutils libraries rpm": "",
		"cat /etc/shadow 2>/dev/null || peek /etc/shadow >/dev/null && echo by a capability": "by a capability\n",
		"stat -c %a /root /proc /etc/shadow; pwd":                                            "550\n555\n0\n/home/alice\n",
		"test -e /etc/ld.so.cache && echo by a script":                                       "by a script\n",
	} {
		assert.Equal(t, result{stdout: want}, run(t, forced, ask{as: centos, cmd: cmd}), cmd)
	}
	installed := run(t, forced, ask{as: centos, cmd: "rpm -qa --qf '%{NAME}\\n'"})
	assert.Equal(t, []string{"bash", "coreutils", "filesystem", "libraries", "rpm"}, sortedLines(installed.stdout), "%+v", installed)
	got := run(t, forced, ask{as: centos, shell: true, stdin: "echo $0 $BASH\n"})
	assert.Equal(t, result{stdout: "-bash /bin/bash\n"}, got)
}

func rpmMachine(t *testing.T) string {
	return strings.TrimSpace(contentsOf(t, "rpm --eval %_arch"))
}

// endless is an archive that takes longer than any test: a file, and 32 GiB that are left out.
func endless(t *testing.T) string {
	t.Helper()
	var b, z bytes.Buffer
	archive := tar.NewWriter(&b)
	require.NoError(t, archive.WriteHeader(&tar.Header{Name: "half", Mode: 0o644}))
	require.NoError(t, archive.WriteHeader(&tar.Header{Typeflag: 'Q', Name: "endless", Size: 1 << 40}))
	path := filepath.Join(t.TempDir(), "endless.tar.gz")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	w := gzip.NewWriter(f)
	_, err = w.Write(b.Bytes())
	require.NoError(t, errors.Join(err, w.Close()))
	w.Reset(&z)
	_, err = w.Write(make([]byte, 8<<20))
	require.NoError(t, errors.Join(err, w.Close()))
	for range 4096 {
		_, err := f.Write(z.Bytes())
		require.NoError(t, err)
	}
	return path
}

// TestUserlandBadly: what administrators get wrong of where a root comes from is one line,
// which says what to do; nothing is made of it, and others are served.
func TestUserlandBadly(t *testing.T) {
	alone(t)
	tree := t.TempDir()
	require.NoError(t, command("cp", "-a", busyboxRoot+"/.", tree))
	importUserland(t, packed(t, tree, "one.tar"))
	first := strings.TrimSpace(contentsOf(t, "readlink "+filepath.Join(imagestore.DefaultDir, userlandImage, "current")))
	// Of another architecture: its shell says so.
	const alien = jailsDir + "/alien"
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(alien)) })
	require.NoError(t, command("cp", "-a", busyboxRoot, alien))
	head := append([]byte("\x7fELF\x02\x02\x01"), make([]byte, 64)...)
	head[19] = 22 // EM_S390, elf.h
	require.NoError(t, os.Remove(filepath.Join(alien, "bin/sh")))
	require.NoError(t, os.WriteFile(filepath.Join(alien, "bin/sh"), head, 0o755))
	packedAlien := packed(t, alien, "alien.tar")
	r := runCommand(t, exec.Command(initPath, "image", "import", userlandImage+"-alien", packedAlien), nil)
	assert.Equal(t, 1, r.status)
	assert.Equal(t, "jail-init: image "+userlandImage+"-alien: "+packedAlien+": its programs are for a big-endian machine, and this machine is "+runtime.GOARCH+"\n", r.stderr)
	assert.NoDirExists(t, filepath.Join(imagestore.DefaultDir, userlandImage+"-alien"))
	// Half imported: it is being made, and no end is in sight.
	half := userlandImage + "-half"
	import_ := exec.Command(initPath, "image", "import", "--max-size", "40T", half, endless(t))
	require.NoError(t, import_.Start())
	ended := false
	end := func() {
		if !ended {
			import_.Process.Signal(syscall.SIGTERM)
			import_.Wait()
		}
		ended = true
	}
	t.Cleanup(end)
	eventually(t, "the import has begun", func() bool {
		made, _ := filepath.Glob(filepath.Join(imagestore.DefaultDir, half, ".new-*/half"))
		return len(made) == 1
	})
	// A home that is a link.
	require.NoError(t, os.MkdirAll("/srv/people", 0o755))
	require.NoError(t, os.Symlink("/srv/people", "/srv/linked"))
	t.Cleanup(func() { require.NoError(t, errors.Join(os.Remove("/srv/linked"), os.RemoveAll("/run/jail/host/root"))) })

	states := filepath.Join(basedStates, "bad")
	require.NoError(t, os.MkdirAll(states, 0o700))
	fine := fmt.Sprintf("version = 1\n[jail.fine]\nrootfs = %q\nusers = [\"centos\"]\nuid = %d\n", busyboxRoot, centos.id)
	// What check says of a registry with one more entry, NAME in it being the jail's, before any start.
	for claim, c := range map[string]struct{ lines, says string }{
		"an image that is not there":    {`base = "nothing"`, "base: there is no image nothing; jail image ls shows those that are there, jail image import makes one"},
		"one that is half imported":     {`base = "` + half + `"`, "base: there is no image " + half + "; jail image ls"},
		"a state in a root directory":   {"base = \"" + userlandImage + "\"\nstate = \"" + alien + "/state\"\n[jail.twin]\nusers = [\"spare2\"]\nrootfs = \"" + alien + "\"", alien + " contains the rootfs of jail \"bad\""},
		"a state in no directory":       {"base = \"" + userlandImage + "\"\nstate = \"/srv/nowhere/one\"", "/srv/nowhere/one cannot be made: /srv/nowhere is missing; make it"},
		"two jails on one state":        {"base = \"" + userlandImage + "\"\nstate = \"" + states + "/one\"\n[jail.twin]\nusers = [\"spare2\"]\nbase = \"" + userlandImage + "\"\nstate = \"" + states + "/one\"", states + "/one is the rootfs of jail"},
		"a home that is a link":         {"rootfs = \"host\"\n[jail.bad.users.spare1]\nhome = \"/srv/linked\"", "/srv/linked is a symbolic link"},
		"a template for root":           {"rootfs = \"/srv/none\"\n[template.t]\nrootfs = \"host\"\n[[match]]\nuser = \"root\"\ntemplate = \"t\"", `match: user = "root" stands for root`},
		"a template for a daemon":       {"rootfs = \"/srv/none\"\n[template.t]\nrootfs = \"host\"\n[[match]]\nuser = \"daemon\"\ntemplate = \"t\"", "stands for system accounts (daemon"},
		"templates that are each other": {"template = \"t\"\n[template.t]\ntemplate = \"u\"\n[template.u]\ntemplate = \"t\"", "template.t.template: "},
	} {
		t.Run(claim, func(t *testing.T) {
			users := "users = [\"spare1\"]\n"
			if strings.Contains(c.lines, "bad.users.") {
				users = ""
			}
			require.NoError(t, os.WriteFile(registryPath, []byte(fine+"[jail.bad]\n"+users+c.lines+"\n"), 0o644))
			r := runCommand(t, exec.Command(initPath, "check"), nil)
			assert.NotZero(t, r.status)
			said := 0
			for line := range strings.Lines(r.stdout + r.stderr) {
				if strings.Contains(line, c.says) {
					said++
				}
			}
			assert.NotZero(t, said, "%s in:\n%s", c.says, r.stdout+r.stderr)
			s, err := serve(registry{text: contents(registryPath), jails: []string{"fine"}, users: []account{centos}})
			require.NoError(t, err)
			assert.Equal(t, result{stdout: "in\n"}, run(t, forced, ask{as: centos, cmd: "echo in"}), "who is not at fault")
			refused := runCommand(t, exec.Command("su", "-", spares[0].login, "-c", "true"), nil)
			assert.Equal(t, 125, refused.status)
			assert.Equal(t, 1, strings.Count(refused.stderr, "\n"), "%s", refused.stderr)
			require.NoError(t, s.stop())
			made, err := os.ReadDir(states)
			require.NoError(t, err)
			assert.Empty(t, made, "nothing is made")
			assert.NoDirExists(t, filepath.Join(alien, "state"))
		})
	}
	end()
	assert.NoDirExists(t, filepath.Join(imagestore.DefaultDir, half))

	// What only a start finds.
	state := filepath.Join(states, "late")
	start := func(base, says string) {
		t.Helper()
		text := fmt.Sprintf("version = 1\n[jail.late]\nbase = %q\nstate = %q\npersist = \"all\"\nusers = [\"centos\"]\nuid = %d\n", base, state, basedUID)
		s, err := serve(registry{text: text, jails: []string{"late"}, users: []account{centos}})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.stop()) }()
		from := int64(len(contents(world.log("serve.log"))))
		r := runCommand(t, exec.Command("su", "-", centos.login, "-c", "echo in"), nil)
		if says == "" {
			require.Equal(t, result{stdout: "in\n"}, r)
			return
		}
		assert.Equal(t, 125, r.status, "%+v", r)
		assert.Equal(t, 1, strings.Count(r.stderr, "\n"), "%s", r.stderr)
		eventually(t, says, func() bool { return strings.Contains(world.tail("serve.log", from), says) })
	}
	start(alien, "its programs are for another processor (22)")
	assert.NoDirExists(t, filepath.Join(state, "root"))
	start(userlandImage+"/"+first, "")
	r = runCommand(t, exec.Command(initPath, "image", "import", userlandImage+"-other", packed(t, busyboxRoot, "other.tar")), nil)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(filepath.Join(imagestore.DefaultDir, userlandImage+"-other"))) })
	require.Zero(t, r.status, "%+v", r)
	start(userlandImage+"-other", "differs from "+userlandImage+"/"+first+", not from "+userlandImage+"-other, which the registry says; jail rebase late")
	start(userlandImage, "")
}
