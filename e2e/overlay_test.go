package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/imagestore"
)

const (
	basedImage  = "e2e-based"
	basedStates = jailsDir + "/states"
)

// basedStore gives a test an image of busybox with what e2e attacks with in it, and
// removes it afterwards. It returns how to call jail image.
func basedStore(t *testing.T) func(args ...string) result {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, errors.Join(os.RemoveAll(filepath.Join(imagestore.DefaultDir, basedImage)), os.RemoveAll(basedStates)))
	})
	image := func(args ...string) result {
		return runCommand(t, exec.Command(initPath, append([]string{"image"}, args...)...), nil)
	}
	importBased(t, image, "one")
	return image
}

// importBased makes an image whose /etc/version is version the current one.
func importBased(t *testing.T, image func(args ...string) result, version string) {
	t.Helper()
	tree := t.TempDir()
	require.NoError(t, command("cp", "-a", busyboxRoot+"/.", tree))
	for name, mode := range map[string]string{attackPath: "0755", filepath.Join(filepath.Dir(attackPath), "suid"): "4755"} {
		require.NoError(t, command("install", "-D", "-m", mode, filepath.Join(world.scratch, "bin/attack"), tree+name))
	}
	require.NoError(t, os.WriteFile(filepath.Join(tree, "etc/version"), []byte(version+"\n"), 0o644))
	archive := filepath.Join(t.TempDir(), "tree.tar")
	require.NoError(t, command("tar", "-C", tree, "--numeric-owner", "-cf", archive, "."))
	r := image("import", basedImage, archive)
	require.Zero(t, r.status, "%+v", r)
}

// basedUID is the login's uid inside, which nobody in the image has.
const basedUID = 61100

// basedJail is a registry of one jail with base, for the login centos, who finds his key in
// the state's home.
func basedJail(t *testing.T, persist string, lines ...string) registry {
	t.Helper()
	state := filepath.Join(basedStates, "based")
	if persist != "none" {
		stateHome(t, state, "centos", basedUID)
	}
	require.NoError(t, os.MkdirAll(basedStates, 0o700))
	return registry{
		text: fmt.Sprintf("version = 1\n[jail.based]\nbase = %q\npersist = %q\nstate = %q\nusers = [\"centos\"]\nuid = %d\n%s\n",
			basedImage, persist, state, basedUID, strings.Join(lines, "\n")),
		jails: []string{"based"}, users: []account{centos},
	}
}

// stateHome makes the home of an account in a state, with the key of the tests in it.
func stateHome(t *testing.T, state, name string, uid int) {
	t.Helper()
	home := filepath.Join(state, "home", name)
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".ssh"), 0o700))
	require.NoError(t, os.Chmod(filepath.Dir(home), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh/authorized_keys"), []byte(contents(keyFile+".pub")), 0o600))
	require.NoError(t, command("chown", "-R", fmt.Sprintf("%d:%d", uid, uid), home))
}

// imageFiles sums up all that is in the images, to see that nothing changes.
func imageFiles(t *testing.T) string {
	t.Helper()
	return contentsOf(t, "cd "+filepath.Join(imagestore.DefaultDir, basedImage)+" && for d in 2*-??????; do (cd $d && find . -xdev -printf '%p %y %m %U %G %s %T@ %l %n\\n' | sort; find . -xdev -type f -exec sha256sum {} + | sort); done")
}

// TestBased: people land in an image that nobody writes to, find what persists, and
// nothing else, stay on theirs while there is a new one, go on to that, and come back.
func TestBased(t *testing.T) {
	alone(t)
	image := basedStore(t)
	before := imageFiles(t)
	s, err := serve(basedJail(t, "all"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	in := func(cmd string) string {
		r := run(t, forced, ask{as: centos, cmd: cmd})
		assert.Empty(t, r.stderr, cmd)
		return r.stdout
	}
	asRoot := func(cmd string) result {
		return runCommand(t, exec.Command(initPath, "exec", "based", "sh", "-c", cmd), nil)
	}
	require.Equal(t, fmt.Sprintf("centos %d /home/centos\n", basedUID), in("echo $(id -un) $(id -u) $PWD; echo mine >file"))
	require.Zero(t, asRoot("rm /etc/group; chmod 4755 /bin/busybox").status)
	assert.Equal(t, before, imageFiles(t))

	// A new image: who runs, and who has files of his own, keeps his.
	importBased(t, image, "two")
	assert.Empty(t, image("prune", basedImage).stdout, "the former one is needed")
	// serve is killed in the middle; the jail stays, and a new one finds it.
	s.kill(syscall.SIGKILL)
	require.NoError(t, s.start())
	assert.Equal(t, "one\n", in("cat /etc/version"))
	require.NoError(t, command(initPath, "stop", "based"))
	assert.Equal(t, "one\nmine\n", in("cat /etc/version file"))
	assert.Empty(t, image("prune", basedImage).stdout, "and so it is when the jail has ended")
	verb := func(args ...string) result { return runCommand(t, exec.Command(initPath, args...), nil) }
	r := verb("key", "centos", "ls")
	assert.Equal(t, 1, strings.Count(r.stdout, "SHA256:"), "%+v", r)
	r = verb("rebase", "based")
	assert.Equal(t, result{stderr: "jail-init: jail based runs; end it first (jail stop based)\n", status: 1}, r)
	for _, step := range []struct{ verb, says, sees string }{
		{"rebase", "begins anew with " + basedImage + "/", "two\nmine\n0\n"},
		{"rollback", "is on " + basedImage + "/", "one\nmine\n1\n"},
		{"rollback", "is on " + basedImage + "/", "two\nmine\n0\n"},
	} {
		require.NoError(t, command(initPath, "stop", "based"))
		r := verb(step.verb, "based")
		require.Zero(t, r.status, "%+v", r)
		assert.Contains(t, r.stdout, step.says)
		assert.Equal(t, step.sees, in("cat /etc/version file; test -e /etc/group; echo $?"), step.verb)
	}
	assert.Empty(t, image("prune", basedImage).stdout, "the former one is kept for a rollback")
	require.NoError(t, command(initPath, "stop", "based"))
	r = verb("rebase", "based")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "which is the current one")
	require.NoError(t, os.RemoveAll(filepath.Join(basedStates, "based/root.old")))
	assert.Contains(t, image("prune", basedImage).stdout, ": removed, ", "nobody needs the former one any more")
	assert.Contains(t, verb("rollback", "based").stderr, "has nothing to go back to")
	r = runCommand(t, exec.Command(initPath, "ps"), nil)
	assert.Contains(t, r.stdout, "base:"+basedImage+":"+basedStates+"/based")
	r = runCommand(t, exec.Command(initPath, "plan", "based"), nil)
	assert.Regexp(t, `(?m)^persist +"all" +/etc/jail/jail.toml:4 jail.based.persist$`, r.stdout)
}

// TestAttackOnABase: everything e2e/attack knows fails in a jail with base, too, and what
// it shares with others is as before.
func TestAttackOnABase(t *testing.T) {
	alone(t)
	basedStore(t)
	before := imageFiles(t)
	s, err := serve(basedJail(t, "home"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.stop()) })
	p := newPrey(t)
	for _, who := range identities {
		r := result{}
		args := strings.Join(p.args(who, "all"), " ")
		if who == root {
			r = runCommand(t, exec.Command(initPath, "exec", "based", "sh", "-c", attackPath+" "+args), nil)
		} else {
			r = run(t, forced, ask{as: centos, cmd: attackPath + " " + args})
		}
		got := verdicts(t, r.stdout)
		assert.GreaterOrEqual(t, len(got), len(attackRows), "%s", r.stderr)
		for name, v := range got {
			assert.False(t, v.got, "%s as %s: %s", name, who.name, v)
		}
	}
	assert.Equal(t, before, imageFiles(t))
}
