package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/config"
	"jail/internal/audit"
	"jail/internal/fdsock"
	"jail/internal/inforce"
	"jail/internal/jail"
	"jail/internal/sys"
)

// checked is a registry of two jails, of one's own, in a directory short enough for sockets.
func checked(t *testing.T, more string) (Options, *bytes.Buffer) {
	dir, err := os.MkdirTemp("", "check")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"one", "two"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	var out bytes.Buffer
	opt := Options{ConfigPath: filepath.Join(dir, "jail.toml"), RuntimeDir: filepath.Join(dir, "run"), Rootless: true, Stdout: &out, Stderr: io.Discard}
	text := "version = 1\n[jail.one]\nrootfs = \"" + dir + "/one\"\nusers = { root = { uid = 1000 } }\nacknowledge = [\"disabled\"]\n" +
		"[jail.two]\nrootfs = \"" + dir + "/two\"\nusers = { daemon = { uid = 1000 } }\n" + more
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte(text), 0o644))
	return opt, &out
}

// findings are those of a check by id.
func findings(t *testing.T, opt Options, out *bytes.Buffer, only string) (map[string]told, int) {
	out.Reset()
	status := Check(opt, only, true)
	var said struct {
		Status   int
		Findings []told
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &said), out.String())
	assert.Equal(t, status, said.Status)
	all := map[string]told{}
	for _, f := range said.Findings {
		all[f.ID] = f
	}
	return all, status
}

func TestCheckOfWhatRuns(t *testing.T) {
	opt, out := checked(t, "")
	found, status := findings(t, opt, out, "")
	assert.Equal(t, 1, status)
	assert.Contains(t, found["serve-down"].What, "is not there")

	require.NoError(t, fdsock.PrepareDir(opt.RuntimeDir))
	found, _ = findings(t, opt, out, "")
	assert.Contains(t, found["serve-down"].What, "does not run, so 2 of 2 logins are refused")

	serve, err := fdsock.ListenServe(opt.RuntimeDir)
	require.NoError(t, err)
	defer sys.Close(serve)
	listener, err := fdsock.ListenLogin(opt.RuntimeDir, 0)
	require.NoError(t, err)
	defer sys.Close(listener)
	found, _ = findings(t, opt, out, "")
	assert.NotContains(t, found, "serve-down")
	assert.Equal(t, []string{"daemon"}, found["login-socket"].Logins)
	assert.Equal(t, []string{"two"}, found["login-socket"].Jails)
	found, _ = findings(t, opt, out, "root")
	assert.NotContains(t, found, "login-socket", "of another login")

	second, err := fdsock.ListenLogin(opt.RuntimeDir, 1)
	require.NoError(t, err)
	defer sys.Close(second)
	found, status = findings(t, opt, out, "")
	assert.NotContains(t, found, "login-socket")
	assert.NotContains(t, found, "registry-stale")
	before := status

	require.NoError(t, os.Chmod(opt.RuntimeDir, 0o777))
	found, _ = findings(t, opt, out, "")
	assert.Contains(t, found["runtime-dir"].What, "0777")
	require.NoError(t, os.Chmod(opt.RuntimeDir, 0o711))

	reg, err := config.Load(opt.ConfigPath, config.Options{Rootless: true, RuntimeDir: opt.RuntimeDir})
	require.NoError(t, err)
	require.NoError(t, inforce.Publish(opt.RuntimeDir, opt.ConfigPath, reg))
	found, status = findings(t, opt, out, "")
	assert.NotContains(t, found, "registry-stale")
	assert.Equal(t, before, status)
	text, err := os.ReadFile(opt.ConfigPath)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(opt.ConfigPath, append(text, "hostname = \"other\"\n"...), 0o644))
	found, _ = findings(t, opt, out, "")
	assert.Equal(t, "warning", found["registry-stale"].Severity)
	assert.Equal(t, "jail reload", found["registry-stale"].Fix)
	// What nobody has read yet has no socket either.
	more := strings.Replace(string(text), "daemon = { uid = 1000 }", "daemon = { uid = 1000 }, bin = { uid = 1001 }", 1)
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte(more), 0o644))
	found, status = findings(t, opt, out, "")
	assert.Equal(t, 1, status)
	assert.Equal(t, "error", found["registry-stale"].Severity)
	assert.Contains(t, found["registry-stale"].What, ": 1 login is not let in yet")
	assert.NotContains(t, found, "login-socket")
	require.NoError(t, os.WriteFile(opt.ConfigPath, text, 0o644))

	// A control socket behind which nobody says who he is.
	ctl, err := fdsock.ListenControl(opt.RuntimeDir, "two")
	require.NoError(t, err)
	defer sys.Close(ctl)
	go func() {
		if conn, _, err := syscall.Accept(ctl); err == nil {
			sys.Close(conn)
		}
	}()
	found, _ = findings(t, opt, out, "")
	assert.Equal(t, []string{"two"}, found["pid1-silent"].Jails)
	assert.Contains(t, found["pid1-silent"].Fix, "jail stop two")
}

func TestCheckOfOne(t *testing.T) {
	opt, out := checked(t, "[jail.three]\nrootfs = \"/nonexistent\"\nusers = [\"bin\"]\n")
	Check(opt, "", false)
	assert.Contains(t, out.String(), "error: "+opt.ConfigPath+":10: jail.three")
	for _, only := range []string{"two", "daemon"} {
		out.Reset()
		Check(opt, only, false)
		assert.NotContains(t, out.String(), "three", only)
	}
	for _, only := range []string{"three", "bin"} {
		out.Reset()
		assert.Equal(t, 1, Check(opt, only, false))
		assert.Contains(t, out.String(), "jail.three", only)
	}
	out.Reset()
	var errs bytes.Buffer
	opt.Stderr = &errs
	assert.Equal(t, 1, Check(opt, "four", true))
	assert.Empty(t, out.String())
	assert.Contains(t, errs.String(), `no jail and no login "four"`)
}

// TestCheckIsForATerminal: what is found may name what a tenant has named.
func TestCheckIsForATerminal(t *testing.T) {
	const hostile = "/home/ü\u009b2J\u202e"
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		v := &verdict{opt: Options{Stdout: &out}, json: asJSON}
		v.say("error", "registry", hostile)
		v.finding(&audit.Finding{Where: hostile, What: hostile})
		v.end()
		assert.Equal(t, 3, strings.Count(out.String(), `/home/ü\u009b2J\u202e`), out.String())
		assert.NotContains(t, out.String(), "\u009b")
		assert.NotContains(t, out.String(), "\u202e")
	}
}

func TestCheckOfWhatIsAcknowledged(t *testing.T) {
	opt, out := checked(t, "")
	for _, name := range []string{"root", "daemon"} {
		require.NoError(t, inforce.Disable(opt.ConfigPath, name, true, "closed"))
	}
	found, _ := findings(t, opt, out, "")
	assert.Equal(t, []string{"daemon"}, found["disabled"].Logins, "root's is acknowledged for jail one")
	assert.Contains(t, found["acknowledged"].What, "1 finding is")
	assert.Equal(t, "jail enable daemon", found["disabled"].Fix)

	text, err := os.ReadFile(opt.ConfigPath)
	require.NoError(t, err)
	all := strings.Replace(string(text), "[jail.one]", "[host]\nacknowledge = [\"disabled\", \"serve-down\"]\n[jail.one]", 1)
	require.NoError(t, os.WriteFile(opt.ConfigPath, []byte(all), 0o644))
	found, status := findings(t, opt, out, "")
	assert.NotContains(t, found, "disabled")
	assert.Contains(t, found, "serve-down", "an error is told whoever acknowledges it")
	assert.Equal(t, 1, status)
}

func TestNarrowIsALoginOnly(t *testing.T) {
	reg := &config.Registry{Jails: []jail.Spec{{Name: "web", Logins: []jail.Login{{Name: "alice"}, {Name: "bob"}}}}}
	n := narrow(reg, "bob")
	require.NotNil(t, n)
	assert.Equal(t, []jail.Login{{Name: "bob"}}, n.Jails[0].Logins)
	assert.Len(t, reg.Jails[0].Logins, 2)
	assert.Nil(t, narrow(reg, "carol"))
}
