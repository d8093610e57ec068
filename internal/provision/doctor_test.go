package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/jail"
)

// TestDoctorKeepsNothing: what a jail sends takes no room of the host's, however much it is.
func TestDoctorKeepsNothing(t *testing.T) {
	bin := t.TempDir()
	old := places
	places = []string{bin}
	defer func() { places = old }()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "scp"), []byte(`#!/bin/sh
for to; do :; done
echo root >"$to" || exit 2
test -z "$(ls -A)" || { echo "it is in the host's memory" >&2; exit 3; }
`), 0o755))
	d := &doctor{ctx: t.Context(), spec: &jail.Spec{}, login: "bob", dir: t.TempDir(), host: "127.0.0.1", port: "22"}
	assert.NoError(t, d.trySCP())
}

// TestDoctorDir: the key of a doctor that was killed goes with the next one, and none of one that is at work.
func TestDoctorDir(t *testing.T) {
	in := t.TempDir()
	died := exec.Command("true")
	require.NoError(t, died.Run())
	require.NoError(t, os.MkdirAll(filepath.Join(in, ".jail-doctor-"+strconv.Itoa(died.Process.Pid)+"-7/key"), 0o700))
	first, err := makeDoctorDir(in)
	require.NoError(t, err)
	second, err := makeDoctorDir(in)
	require.NoError(t, err)
	left, err := filepath.Glob(in + "/.*")
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{first, second}, left)
}

// TestSaid: what comes from a jail does nothing to a terminal.
func TestSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"one\ntwo \n":                 " (two)",
		"a\x1b[31mb\rc\x7fd":          " (a [31mb c d)",
		"a\u009b31mb\u009d0;x\u009cc": " (a 31mb 0;x c)",
		"a\u202eb\u2066c":             " (a b c)",
		"Straße \u20ac":               " (Straße \u20ac)",
		"\x9b31m":                     " (\ufffd31m)",
	} {
		assert.Equal(t, want, said(text), "%q", text)
	}
}
