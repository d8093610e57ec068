package needs

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
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
