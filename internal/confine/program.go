//go:build linux

package confine

import "jail/internal/sys"

// Filter returns the seccomp filter of every jail on this architecture; what it
// says stands in rules.go.
//
// It is a table made by assemble beforehand, because it is needed in the middle
// of every start; a test holds the two together, and writes the table anew with
// -update.
func Filter() []sys.SockFilter { return filter[:] }

// Offsets in struct seccomp_data.
const (
	offNR   = 0
	offArch = 4
	offArgs = 16 // the low word of the first, on a little-endian machine
)

// program assembles a filter. Jumps are to labels, resolved by finish.
type program struct {
	ins    []sys.SockFilter
	labels map[label]int
	fixups []fixup
}

// label is a place in a program. The zero label is the next instruction.
type label struct {
	abi, what string
	n         uint32
}

type fixup struct {
	at     int
	jt, jf label
}

func (p *program) label(l label)   { p.labels[l] = len(p.ins) }
func (p *program) load(off uint32) { p.ins = append(p.ins, sys.SockFilter{Code: 0x20, K: off}) }
func (p *program) and(k uint32)    { p.ins = append(p.ins, sys.SockFilter{Code: 0x54, K: k}) }
func (p *program) ret(k uint32)    { p.ins = append(p.ins, sys.SockFilter{Code: 0x06, K: k}) }

func (p *program) jump(code uint16, k uint32, jt, jf label) {
	p.fixups = append(p.fixups, fixup{len(p.ins), jt, jf})
	p.ins = append(p.ins, sys.SockFilter{Code: code, K: k})
}

func (p *program) goTo(l label)                     { p.jump(0x05, 0, l, label{}) }
func (p *program) ifEqual(k uint32, jt, jf label)   { p.jump(0x15, k, jt, jf) }
func (p *program) ifAtLeast(k uint32, jt, jf label) { p.jump(0x35, k, jt, jf) }
func (p *program) ifAnyBit(k uint32, jt, jf label)  { p.jump(0x45, k, jt, jf) }

func (p *program) finish() []sys.SockFilter {
	distance := func(at int, l label, most int) int {
		if l == (label{}) {
			return 0
		}
		to, ok := p.labels[l]
		d := to - at - 1
		if !ok || d < 0 || d > most {
			panic("confine: jump to " + l.abi + " " + l.what)
		}
		return d
	}
	for _, f := range p.fixups {
		if p.ins[f.at].Code == 0x05 {
			p.ins[f.at].K = uint32(distance(f.at, f.jt, 4096))
			continue
		}
		p.ins[f.at].JT, p.ins[f.at].JF = uint8(distance(f.at, f.jt, 255)), uint8(distance(f.at, f.jf, 255))
	}
	return p.ins
}

// assemble makes the filter of one machine.
func assemble(m machine) []sys.SockFilter {
	p := &program{labels: map[label]int{}}
	p.load(offArch)
	for i := range m.abis {
		a := &m.abis[i]
		next := label{a.name, "not", 0}
		p.ifEqual(a.audit, label{}, next)
		p.goTo(label{a.name, "numbers", 0})
		p.label(next)
	}
	p.ret(retKillProcess)
	for i := range m.abis {
		p.abi(&m.abis[i])
	}
	for i := range calls {
		if len(calls[i].clauses) > 0 {
			p.byArgument(&calls[i])
		}
	}
	return p.finish()
}

// abi appends the rules of one ABI.
func (p *program) abi(a *abi) {
	rows := a.rows()
	p.label(label{a.name, "numbers", 0})
	p.load(offNR)
	p.ifAtLeast(newestKnown+1, label{a.name, "beyond", 0}, label{})
	p.search(a, rows)
	for _, answer := range []uint32{allow, eperm, enosys} {
		p.label(label{a.name, "answer", answer})
		p.ret(answer)
	}
	p.label(label{a.name, "beyond", 0})
	for i, nr := range a.beyond {
		p.ifEqual(nr, label{}, label{a.name, "beyond", uint32(i + 1)})
		p.ret(allow)
		p.label(label{a.name, "beyond", uint32(i + 1)})
	}
	p.ret(enosys)
	// The clauses are the same for every ABI, and too far away for a comparison.
	for _, c := range rows {
		if len(c.clauses) > 0 {
			p.label(label{a.name, c.name, 0})
			p.goTo(label{"", c.name, 0})
		}
	}
}

// rows are the calls an ABI has, in the order of its numbers.
func (a *abi) rows() []*call {
	var rows []*call
	for i := range calls {
		c := &calls[i]
		if a.number(c) == none {
			continue
		}
		rows = append(rows, c)
		for j := len(rows) - 1; j > 0 && a.number(rows[j-1]) > a.number(c); j-- {
			rows[j-1], rows[j] = rows[j], rows[j-1]
		}
	}
	return rows
}

// search looks the system call up in rows, which are in the order of its numbers.
// It halves them, because the kernel runs a new filter for every number there is,
// to learn which ones always pass (kernel/seccomp.c:seccomp_cache_prepare): one
// comparison after the other, that is most of what installing it costs.
func (p *program) search(a *abi, rows []*call) {
	if half := len(rows) / 2; len(rows) > 3 {
		upper := uint32(a.number(rows[half]))
		p.ifAtLeast(upper, label{a.name, "from", upper}, label{})
		p.search(a, rows[:half])
		p.label(label{a.name, "from", upper})
		p.search(a, rows[half:])
		return
	}
	for i, c := range rows {
		hit, miss := label{a.name, "answer", c.answer}, label{}
		if len(c.clauses) > 0 {
			hit = label{a.name, c.name, 0}
		}
		if i == len(rows)-1 {
			miss = label{a.name, "answer", allow}
		}
		p.ifEqual(uint32(a.number(c)), hit, miss)
	}
}

// byArgument appends the clauses of a call.
func (p *program) byArgument(c *call) {
	step := uint32(0)
	mark := func() label { step++; return label{"", c.name, step} }
	p.label(label{"", c.name, 0})
	for _, cl := range c.clauses {
		next := mark()
		for _, cond := range cl.when {
			p.load(offArgs + 8*uint32(cond.arg))
			if cond.bits != 0 {
				p.ifAnyBit(cond.bits, label{}, next)
				continue
			}
			if cond.mask != 0 {
				p.and(cond.mask)
			}
			holds := mark()
			for i, v := range cond.in {
				if i < len(cond.in)-1 {
					p.ifEqual(v, holds, label{})
				} else {
					p.ifEqual(v, label{}, next)
				}
			}
			p.label(holds)
		}
		p.ret(cl.answer)
		p.label(next)
	}
	p.ret(c.answer)
}
