package keys

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/authkeys"
	"jail/internal/needs"
	"jail/internal/sys"
	"jail/internal/wire"
)

func offerOf(t *testing.T, key string) *authkeys.Offer {
	typ, b64, _ := strings.Cut(key, " ")
	o, err := authkeys.ParseOffer(typ, b64)
	require.NoError(t, err)
	return &o
}

// TestProofLine: a line for one key, one login, for its time, out of files that are root's alone.
func TestProofLine(t *testing.T) {
	needs.Root(t, "the files are root's")
	run := t.TempDir()
	req := request{runtimeDir: run, user: "alice", offer: offerOf(t, keyA)}
	assert.Nil(t, proofLine(req), "nothing is there")
	remove, err := WriteProof(run, "alice", keyA, []string{"127.0.0.1", "::1"})
	require.NoError(t, err)
	const line = `from="127.0.0.1,::1",no-user-rc,command="exec /usr/bin/jail-enter --forced" `
	assert.Equal(t, line+keyA+"\n", string(proofLine(req)))

	for claim, other := range map[string]request{
		"another login":    {runtimeDir: run, user: "bob", offer: req.offer},
		"another key":      {runtimeDir: run, user: "alice", offer: offerOf(t, keyB)},
		"no key":           {runtimeDir: run, user: "alice"},
		"a directory else": {runtimeDir: run + "/x", user: "alice", offer: req.offer},
	} {
		assert.Nil(t, proofLine(other), claim)
	}
	dir, file := filepath.Join(run, "proof"), filepath.Join(run, "proof", "alice")
	st, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), st.Mode())
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	fields := strings.Split(string(good), "\n")
	with := func(n int, text string) func() error {
		return func() error {
			f := append([]string(nil), fields...)
			f[n] = text
			return os.WriteFile(file, []byte(strings.Join(f, "\n")), 0o600)
		}
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	now := sys.MonotonicMillis()
	for claim, c := range map[string]struct{ do, undo func() error }{
		"another may read the file":      {func() error { return os.Chmod(file, 0o604) }, func() error { return os.Chmod(file, 0o600) }},
		"another's file":                 {func() error { return os.Chown(file, 7, 0) }, func() error { return os.Chown(file, 0, 0) }},
		"another's directory":            {func() error { return os.Chown(dir, 7, 0) }, func() error { return os.Chown(dir, 0, 0) }},
		"a directory others may enter":   {func() error { return os.Chmod(dir, 0o710) }, func() error { return os.Chmod(dir, 0o700) }},
		"a link":                         {func() error { return either(os.Rename(file, file+"x"), os.Symlink("alicex", file)) }, func() error { return os.Rename(file+"x", file) }},
		"its time is over":               {with(1, number(now-1)), with(1, fields[1])},
		"a time that is not one":         {with(1, "soon"), with(1, fields[1])},
		"longer than a proof may count":  {with(1, number(now+2*wire.MaxProofMillis)), with(1, fields[1])},
		"a line from anywhere":           {with(2, keyA), with(2, fields[2])},
		"a line with a command":          {with(2, `command="x",`+fields[2]), with(2, fields[2])},
		"a line of an authority":         {with(2, `cert-authority,`+fields[2]), with(2, fields[2])},
		"one line more":                  {with(3, "x\n"), with(3, fields[3])},
		"more than a file of a proof is": {with(3, strings.Repeat("#", maxProof)), with(3, fields[3])},
	} {
		require.NoError(t, c.do(), claim)
		assert.Nil(t, proofLine(req), claim)
		require.NoError(t, c.undo(), claim)
		assert.NotNil(t, proofLine(req), "it is as it was after %s", claim)
	}
	remove()
	assert.Nil(t, proofLine(req))
	assert.NoDirExists(t, dir)

	// What a doctor has left that was killed goes with the next one, whoever's login it was; what another is at stays.
	died := exec.Command("true")
	require.NoError(t, died.Run())
	until := sys.MonotonicMillis() + 60_000
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for login, f := range map[string]struct {
		pid   int
		until int64
	}{"killed": {died.Process.Pid, until}, "hangs": {os.Getppid(), until - 60_001}, "proves": {os.Getppid(), until}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, login), []byte(fmt.Sprintf("%d\n%d\n%s\n", f.pid, f.until, `from="::1" `+keyA)), 0o600))
	}
	remove, err = WriteProof(run, "alice", keyA, []string{"::1"})
	require.NoError(t, err)
	remove()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, "proves", left[0].Name())

	_, err = WriteProof(run, "alice", keyA+"\nssh-rsa AAAA", nil)
	assert.Error(t, err, "no second line")
}

func either(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
