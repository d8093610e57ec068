package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// line is one line of the table: something measured, or beneath it what it is
// compared with.
type line struct {
	what   string
	value  string
	floor  string // its ratio to the floor
	peer   string // its ratio to the best peer, and which that is
	target string
	met    string
	note   string
	below  bool // a floor or a peer of the line above
}

type table struct {
	mu    sync.Mutex // the watchdog prints what there is
	lines []line
}

func (t *table) add(l line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.note = printable(l.note)
	t.lines = append(t.lines, l)
}

// printable makes what a program has said fit for the table.
func printable(s string) string {
	const most = 160
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '|':
			return '/'
		case r < ' ' || r == utf8.RuneError:
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strings.TrimSpace(s)
}

// String is the table in Markdown, aligned to be read as it is.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	cells := [][]string{{"", "median", "× floor", "× best peer", "target", "met", "remarks"}}
	for _, l := range t.lines {
		what := l.what
		if l.below {
			what = "· " + what
		}
		cells = append(cells, []string{what, l.value, l.floor, l.peer, l.target, l.met, l.note})
	}
	width := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	width[len(width)-1] = 0 // nothing follows the last column
	var s strings.Builder
	for n, row := range cells {
		for i, c := range row {
			fmt.Fprintf(&s, "| %s%s ", c, strings.Repeat(" ", max(0, width[i]-utf8.RuneCountInString(c))))
		}
		s.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				s.WriteString("|" + strings.Repeat("-", w+2))
			}
			s.WriteString("|\n")
		}
	}
	return s.String()
}

func yesNo(met bool) string {
	if met {
		return "yes"
	}
	return "NO"
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func median[T int64 | float64 | time.Duration](samples []T) T {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

func duration(d time.Duration) string {
	if d < 200*time.Microsecond {
		return fmt.Sprintf("%.1f µs", float64(d)/1e3)
	}
	return fmt.Sprintf("%.2f ms", float64(d)/1e6)
}

func kib(bytes int64) string { return fmt.Sprintf("%d KiB", (bytes+512)/1024) }

func rate(bytes int64, d time.Duration) string {
	return fmt.Sprintf("%.0f MiB/s", float64(bytes)/(1<<20)/d.Seconds())
}
