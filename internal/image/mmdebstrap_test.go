package image

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMmdebstrap: what the program writes becomes the image; it is ended with the import.
func TestMmdebstrap(t *testing.T) {
	s := store(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	fake := func(script string) {
		require.NoError(t, os.WriteFile(filepath.Join(bin, "mmdebstrap"), []byte("#!/bin/sh\n"+script), 0o755))
	}
	run := func(suite string) (*Import, error) {
		o := job(t, "deb", "")
		o.Mmdebstrap = suite
		return o, s.Import(o)
	}
	archive := archiveOf(t, dir("etc"), file("etc/debian_version", "12"))
	fake(`test "$*" = "--format=tar bookworm -" && echo "I: working" >&2 && exec cat ` + archive)
	o, err := run("bookworm")
	require.NoError(t, err)
	assert.Contains(t, o.said(t), "I: working\n")
	text, err := os.ReadFile(filepath.Join(s.root(t, "deb"), "etc/debian_version"))
	require.NoError(t, err)
	assert.Equal(t, "12", string(text))
	list, err := s.List()
	require.NoError(t, err)
	assert.Equal(t, "mmdebstrap bookworm", list[0].Source)
	_, err = s.Remove("deb")
	require.NoError(t, err)

	fake("echo 'E: no such suite' >&2; exit 25")
	_, err = run("nowhere")
	assert.ErrorContains(t, err, "mmdebstrap nowhere: exit status 25")
	nothingLeft(t, s)
	_, err = run("--hook-dir=/x")
	assert.ErrorContains(t, err, "must be the name of a release")

	started := filepath.Join(bin, "started")
	finished := filepath.Join(bin, "finished")
	cleaned := filepath.Join(bin, "cleaned")
	// As mmdebstrap does, which removes its tree by a program.
	fake("trap 'trap : TERM; sleep 0.5 && : >" + cleaned + "; exit 1' TERM; : >" + started + "; sleep 5; : >" + finished)
	go func() {
		for range 1000 {
			if _, err := os.Stat(started); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGINT)
	}()
	_, err = run("bookworm")
	assert.ErrorIs(t, err, ErrInterrupted)
	assert.NoFileExists(t, finished)
	assert.FileExists(t, cleaned, "it is left in peace")
	nothingLeft(t, s)
}
