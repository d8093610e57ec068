package main

import (
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/needs"
)

func TestSmallestPrograms(t *testing.T) {
	needs.Machine(t, runtime.GOARCH == "amd64", "amd64 is needed: they are its machine code")
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, program(codeTrue), 0o755))
	assert.NoError(t, exec.Command(path).Run(), "true ends with status 0")

	require.NoError(t, os.WriteFile(path, program(codeReady), 0o755))
	ready := exec.Command(path)
	out, err := ready.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, ready.Start())
	var b [1]byte
	_, err = out.Read(b[:])
	assert.NoError(t, err, "ready writes a byte")
	assert.NoError(t, ready.Process.Kill(), "and waits")
	assert.ErrorContains(t, ready.Wait(), "signal: killed")
}

func TestMedian(t *testing.T) {
	assert.Equal(t, int64(0), median[int64](nil))
	assert.Equal(t, int64(3), median([]int64{9, 1, 3}))
	assert.Equal(t, 25*time.Millisecond, median([]time.Duration{40 * time.Millisecond, 20 * time.Millisecond, 30 * time.Millisecond, 1}))
}

func TestTableIsMarkdown(t *testing.T) {
	var table table
	table.add(line{what: "a", value: "1 µs", note: "a | b\r\n\x1b[31m"})
	table.add(line{what: "b", below: true})
	rows := strings.Split(strings.TrimSpace(table.String()), "\n")
	require.Len(t, rows, 4)
	for _, r := range rows {
		assert.Equal(t, 8, strings.Count(r, "|"), "cells of %q", r)
	}
	assert.NotContains(t, table.String(), "\x1b", "what a program says cannot reach the terminal")
}

func TestGrowth(t *testing.T) {
	x := []float64{1000, 2000, 5000, 10_000}
	of := func(f func(x float64) float64) (y []float64) {
		for _, x := range x {
			y = append(y, f(x))
		}
		return y
	}
	slope, fixed, r2 := linear(x, of(func(x float64) float64 { return 3*x + 7 }))
	assert.InDelta(t, 3, slope, 1e-9)
	assert.InDelta(t, 7, fixed, 1e-6)
	assert.InDelta(t, 1, r2, 1e-9)

	assert.InDelta(t, 1, exponent(x, of(func(x float64) float64 { return x / 100 })), 1e-9)
	assert.Greater(t, exponent(x, of(func(x float64) float64 { return x * x / 1e5 })), growthLimit, "what is quadratic is seen")
	assert.Greater(t, exponent(x, of(func(x float64) float64 { return x/100 + x*x/1e6 })), growthLimit, "also beside what is linear")
	assert.Zero(t, exponent(x, of(func(float64) float64 { return 5 })))
}

func TestLeast(t *testing.T) {
	costs := []cost{{3, 9}, {5, 7}, {4, 8}}
	n := 0
	got, err := least(len(costs), func() (cost, error) { n++; return costs[n-1], nil })
	require.NoError(t, err)
	assert.Equal(t, cost{3, 7}, got, "the least of each")
	n = 0
	_, err = least(3, func() (cost, error) { n++; return cost{}, os.ErrInvalid })
	assert.ErrorIs(t, err, os.ErrInvalid)
	assert.Equal(t, 1, n)
}

// The processor time of this process grows while it works, in steps far below ten
// milliseconds.
func TestProcessorTime(t *testing.T) {
	before := processorTime(os.Getpid())
	require.NotZero(t, before)
	last, steps := before, 0
	for end := time.Now().Add(10 * time.Second); steps < 20 && time.Now().Before(end); {
		if now := processorTime(os.Getpid()); now > last {
			last = now
			steps++
		}
	}
	assert.Less(t, last-before, 20*10*time.Millisecond)
	assert.Equal(t, 20, steps)
}

// TestPlot: what can be compared is drawn, what was not measured and what is no time is not.
func TestPlot(t *testing.T) {
	var table table
	table.add(line{what: "warm <entry>", value: "1.20 ms", met: "yes"})
	table.add(line{what: "floor", value: "150.0 µs", below: true})
	table.add(line{what: "lxc", value: "–", below: true, note: "is not there"})
	table.add(line{what: "memory", value: "700 KiB"})
	table.add(line{what: "of it", value: "1 KiB", below: true})
	table.add(line{what: "alone", value: "3.00 ms"})
	assert.Equal(t, []comparison{{"warm <entry>", []bar{{"jail", "1.20 ms", 1.2}, {"floor", "150.0 µs", 0.15}}}}, comparisons(table.String()))
	svg := plot(table.String())
	assert.Contains(t, svg, "warm &lt;entry&gt;")
	assert.Contains(t, svg, `width="380.0"`)
	assert.Contains(t, svg, `width="47.5"`)
	assert.NotContains(t, svg, "lxc")
	var any struct{}
	assert.NoError(t, xml.Unmarshal([]byte(svg), &any))
}
