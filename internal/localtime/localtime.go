// Package localtime tells the time of day of a time zone from the zone's rule (tzset(3)) alone:
// without a database, and without package time, whose zones would cost the start of a program
// that writes one line with them. It goes by what a zone does from now on: a time before its
// law last changed can be wrong by the hour or so that the law changed.
package localtime

import "strconv"

const (
	minute = 60
	hour   = 60 * minute
	day    = 24 * hour
)

// Of returns what clocks show at t in a zone of that rule, and whether rule is one.
// Both times are seconds since 1970 as if there were one zone only. The rule may be anybody's text.
func Of(rule string, t int64) (shown int64, ok bool) {
	p := parser{rest: rule}
	standard, summer, start, end, hasSummer := p.rule()
	if p.bad || p.rest != "" {
		return t, false
	}
	if !hasSummer {
		return t + standard, true
	}
	d, _ := split(t + standard)
	year, _, _ := civil(d)
	from, to := start.in(year)-standard, end.in(year)-summer
	inSummer := t >= from && t < to
	if from > to { // the southern half
		inSummer = t >= from || t < to
	}
	if inSummer {
		return t + summer, true
	}
	return t + standard, true
}

// change is when clocks are changed each year.
type change struct {
	kind             byte // 'M' month, week and weekday; 'J' a day of the year without February 29; 0 with it
	month, week, day int
	time             int64 // seconds after midnight, or before
}

// in returns what the clock shows at the change of that year.
func (c *change) in(year int64) int64 {
	first := days(year, 1, 1)
	var d int64
	switch c.kind {
	case 'J':
		d = first + int64(c.day) - 1
		if leap(year) && c.day >= 60 {
			d++
		}
	case 'M':
		begin := days(year, c.month, 1)
		d = begin + int64(c.day) - weekday(begin)
		if d < begin {
			d += 7
		}
		d += 7 * int64(c.week-1)
		next := days(year, c.month+1, 1)
		if c.month == 12 {
			next = days(year+1, 1, 1)
		}
		if d >= next { // the fifth is the last
			d -= 7
		}
	default:
		d = first + int64(c.day)
	}
	return d*day + c.time
}

// parser takes a rule apart. What it could not read makes it bad.
type parser struct {
	rest string
	bad  bool
}

// rule reads the whole of std offset [dst [offset] [,start[/time],end[/time]]].
func (p *parser) rule() (standard, summer int64, start, end change, hasSummer bool) {
	p.name()
	standard = -p.offset(24)
	if p.rest == "" {
		return
	}
	p.name()
	summer = standard + hour
	if p.rest != "" && p.rest[0] != ',' {
		summer = -p.offset(24)
	}
	if p.rest == "" {
		p.rest = ",M3.2.0,M11.1.0" // as glibc has it
	}
	start, end = p.change(), p.change()
	return standard, summer, start, end, true
}

func (p *parser) name() {
	n := 0
	if p.take('<') {
		for n < len(p.rest) && p.rest[n] != '>' {
			n++
		}
		if n < len(p.rest) {
			p.rest = p.rest[n+1:]
			return
		}
		p.bad = true
		return
	}
	for n < len(p.rest) && (p.rest[n]|0x20 >= 'a' && p.rest[n]|0x20 <= 'z') {
		n++
	}
	p.bad = p.bad || n < 3
	p.rest = p.rest[n:]
}

// offset reads [+-]hh[:mm[:ss]].
func (p *parser) offset(most int) int64 {
	sign := int64(1)
	if p.take('-') {
		sign = -1
	} else {
		p.take('+')
	}
	n := int64(p.number(0, most)) * hour
	if p.take(':') {
		n += int64(p.number(0, 59)) * minute
		if p.take(':') {
			n += int64(p.number(0, 59))
		}
	}
	return sign * n
}

func (p *parser) change() (c change) {
	p.need(',')
	switch {
	case p.take('M'):
		c.kind = 'M'
		c.month = p.number(1, 12)
		p.need('.')
		c.week = p.number(1, 5)
		p.need('.')
		c.day = p.number(0, 6)
	case p.take('J'):
		c.kind, c.day = 'J', p.number(1, 365)
	default:
		c.day = p.number(0, 365)
	}
	c.time = 2 * hour
	if p.take('/') {
		c.time = p.offset(167) // RFC 8536, 3.3.1
	}
	return c
}

func (p *parser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) need(c byte) {
	if !p.take(c) {
		p.bad = true
	}
}

func (p *parser) number(least, most int) int {
	n, digits := 0, 0
	for digits < len(p.rest) && p.rest[digits] >= '0' && p.rest[digits] <= '9' && digits < 3 {
		n = 10*n + int(p.rest[digits]-'0')
		digits++
	}
	p.rest = p.rest[digits:]
	if digits == 0 || n < least || n > most {
		p.bad = true
		return least
	}
	return n
}

// Append appends t, which Of has returned, as asctime(3) writes it: "Sat Nov 28 20:15:01 2026".
func Append(dst []byte, t int64) []byte {
	d, s := split(t)
	year, month, mday := civil(d)
	dst = append(dst, "SunMonTueWedThuFriSat"[3*weekday(d):][:3]...)
	dst = append(dst, ' ')
	dst = append(dst, "JanFebMarAprMayJunJulAugSepOctNovDec"[3*(month-1):][:3]...)
	dst = append(dst, ' ')
	dst = two(dst, int64(mday), ' ')
	dst = append(dst, ' ')
	dst = append(two(dst, s/hour, '0'), ':')
	dst = append(two(dst, s%hour/minute, '0'), ':')
	dst = append(two(dst, s%minute, '0'), ' ')
	return strconv.AppendInt(dst, year, 10)
}

func two(dst []byte, n int64, pad byte) []byte {
	if n < 10 {
		dst = append(dst, pad)
	}
	return strconv.AppendInt(dst, n, 10)
}

// split returns the day of t since 1970 and the second of that day.
func split(t int64) (d, second int64) {
	d, second = t/day, t%day
	if second < 0 {
		return d - 1, second + day
	}
	return d, second
}

func leap(year int64) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

// weekday of a day since 1970, which began with a Thursday; 0 is Sunday.
func weekday(d int64) int64 { return ((d+4)%7 + 7) % 7 }

// before is how many days of a year lie before each month, without February 29.
var before = [...]int64{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// days is how many days since 1970 a date is. The month may be 13.
func days(year int64, month, mday int) int64 {
	y := year - 1
	d := 365*y + y/4 - y/100 + y/400 - 719162 + before[month-1] + int64(mday) - 1
	if month > 2 && leap(year) {
		d++
	}
	return d
}

// civil is the date of a day since 1970, of the years 1 to 9999.
func civil(d int64) (year int64, month, mday int) {
	year = 1970 + d/366
	for days(year+1, 1, 1) <= d {
		year++
	}
	for days(year, 1, 1) > d {
		year--
	}
	month = 12
	for days(year, month, 1) > d {
		month--
	}
	return year, month, int(d-days(year, month, 1)) + 1
}
