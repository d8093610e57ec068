package needs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// told is a test that only notes what becomes of it.
type told struct {
	testing.TB
	fatal, skipped bool
}

func (t *told) Helper() {}

func (t *told) Fatal(...any) { t.fatal = true; runtime.Goexit() }

func (t *told) Skip(...any) { t.skipped = true; runtime.Goexit() }

// ask runs f as a test would be run.
func ask(f func(t testing.TB)) *told {
	t := &told{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(t)
	}()
	<-done
	return t
}

func TestWhatBecomesOfATest(t *testing.T) {
	_, err := kernelConfig()
	known := err == nil
	for _, tt := range []struct {
		claim, must    string
		need           func(t testing.TB)
		fatal, skipped bool
	}{
		{"what is there is no reason", "1", func(t testing.TB) { Machine(t, true, "x") }, false, false},
		{"what is missing is one", "", func(t testing.TB) { Machine(t, false, "x") }, false, true},
		{"unless all must run", "1", func(t testing.TB) { Machine(t, false, "x") }, true, false},
		{"a program that is there", "1", func(t testing.TB) { Program(t, "go") }, false, false},
		{"a program that is not", "", func(t testing.TB) { Program(t, "/nonexistent/x") }, false, true},
		{"and must be", "1", func(t testing.TB) { Program(t, "/nonexistent/x") }, true, false},
		{"a feature of a kernel to come", "1", func(t testing.TB) { Kernel(t, false, 999, 0, "x") }, false, true},
		{"a feature this kernel should have", "1", func(t testing.TB) { Kernel(t, false, 2, 6, "x") }, true, false},
		{"where not all must run", "", func(t testing.TB) { Kernel(t, false, 2, 6, "x") }, false, true},
		{"a feature no kernel is built with", "1", func(t testing.TB) { Config(t, false, "CONFIG_NONE_SUCH", "x") }, !known, known},
		{"a feature every kernel is built with", "1", func(t testing.TB) { Config(t, false, "CONFIG_BINFMT_ELF", "x") }, true, false},
		{"a feature that is there, whatever is said", "1", func(t testing.TB) { Config(t, true, "CONFIG_NONE_SUCH", "x") }, false, false},
		{"a feature that is there", "1", func(t testing.TB) { Kernel(t, true, 999, 0, "x") }, false, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			t.Setenv("JAIL_TEST_MUST_RUN", tt.must)
			got := ask(tt.need)
			assert.Equal(t, tt.fatal, got.fatal)
			assert.Equal(t, tt.skipped, got.skipped)
		})
	}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		release      string
		major, minor int
		want         bool
	}{
		{"6.11.5-arch1-1", 6, 12, true},
		{"5.15.0", 6, 12, true},
		{"6.12.0", 6, 12, false},
		{"6.12-rc3", 6, 12, false},
		{"6.18.3+", 6, 12, false},
		{"7.0.1", 6, 12, false},
		{"unreadable", 6, 12, false},
	} {
		assert.Equal(t, tt.want, older(tt.release, tt.major, tt.minor), fmt.Sprint(tt))
	}
}

func TestBuilt(t *testing.T) {
	const config = "CONFIG_QUOTA=y\n# CONFIG_QFMT_V2 is not set\nCONFIG_OVERLAY_FS=m\n"
	for option, want := range map[string]bool{"CONFIG_QUOTA": true, "CONFIG_QFMT_V2": false, "CONFIG_OVERLAY_FS": true, "CONFIG_QUOT": false, "QUOTA": false} {
		assert.Equal(t, want, built(config, option), option)
	}
}

// TestNobodyElseSkips: a test that leaves itself out says so here, or nobody hears of it
// where everything must run.
func TestNobodyElseSkips(t *testing.T) {
	skip := regexp.MustCompile(`\b[tbf]b?\.Skip(f|Now)?\(`)
	seen := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "build" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "needs" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		for n, line := range strings.Split(string(text), "\n") {
			assert.False(t, skip.MatchString(line), "%s:%d: package needs says what is needed", path, n+1)
		}
		return nil
	}))
	assert.Greater(t, seen, 100)
}
