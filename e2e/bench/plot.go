package main

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// bar is one of a comparison: a name, and how long it takes.
type bar struct {
	name, text string
	millis     float64
}

// comparison is what is compared in one row of the table: ours first.
type comparison struct {
	what string
	bars []bar
}

// comparisons reads the rows of a table that compare times. What was not measured is left out.
func comparisons(table string) (all []comparison) {
	var open *comparison
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		if len(cells) < 3 {
			continue
		}
		name, text := strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])
		below := strings.HasPrefix(name, "· ")
		name = strings.TrimPrefix(name, "· ")
		millis, ok := millis(text)
		if !below {
			if open = nil; ok {
				all = append(all, comparison{what: name, bars: []bar{{"jail", text, millis}}})
				open = &all[len(all)-1]
			}
		} else if open != nil && ok {
			open.bars = append(open.bars, bar{name, text, millis})
		}
	}
	return slices.DeleteFunc(all, func(g comparison) bool { return len(g.bars) < 2 })
}

// millis reads what duration writes.
func millis(text string) (float64, bool) {
	number, unit, _ := strings.Cut(text, " ")
	v, err := strconv.ParseFloat(number, 64)
	switch unit {
	case "µs":
		v /= 1000
	case "ms":
	default:
		return 0, false
	}
	return v, err == nil
}

// plot draws the rows of a table that compare times, each on a scale of its own: shorter is
// better.
func plot(table string) string {
	const (
		names, bars, texts = 250, 380, 90 // widths of the columns, in pixels
		step, head, gap    = 20, 24, 14
	)
	all := comparisons(table)
	height := gap
	for _, g := range all {
		height += head + step*len(g.bars) + gap
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", names+bars+texts, height)
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", names+bars+texts, height)
	y := gap
	for _, g := range all {
		fmt.Fprintf(&s, `<text x="8" y="%d" font-weight="bold" fill="#222222">%s</text>`+"\n", y+15, escaped(g.what))
		y += head
		longest := slices.MaxFunc(g.bars, func(a, b bar) int { return int(a.millis*1e6 - b.millis*1e6) }).millis
		for i, b := range g.bars {
			colour := "#b8bec6"
			if i == 0 {
				colour = "#2f6fb0"
			}
			width := max(b.millis/longest*bars, 1)
			fmt.Fprintf(&s, `<text x="%d" y="%d" text-anchor="end" fill="#222222">%s</text><rect x="%d" y="%d" width="%.1f" height="13" fill="%s"/><text x="%.1f" y="%d" fill="#222222">%s</text>`+"\n",
				names-8, y+12, escaped(b.name), names, y+2, width, colour, names+width+6, y+12, escaped(b.text))
			y += step
		}
		y += gap
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func escaped(text string) string {
	var s strings.Builder
	_ = xml.EscapeText(&s, []byte(text))
	return s.String()
}
