package netload

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"jail/internal/network"
)

// What registers hold in all programs. R0 to R5 are lost in a call (the kernel's
// Documentation/bpf/standardization/instruction-set.rst), R6 to R9 are not.
const (
	ctx  = asm.R6 // what the hook is about
	self = asm.R7 // the caller's jail, a value of network.JailSize bytes
	port = asm.R8 // in host order
	addr = asm.R9 // an IPv4 address, in host order
)

// struct bpf_sock_addr (linux/bpf.h).
const (
	saIP4, saIP6, saPort, saProtocol, saSource4, saSource6, saSock = 4, 8, 24, 36, 40, 44, 64
)

// struct bpf_sock (linux/bpf.h).
const (
	skDevice, skFamily, skProtocol, skSource4, skSource6, skSourcePort, skDest4 = 0, 4, 12, 24, 28, 44, 52
)

// struct __sk_buff (linux/bpf.h).
const (
	skbProtocol, skbData, skbDataEnd, skbSock = 16, 76, 80, 168
)

// Places on the stack.
const (
	stTag    = -8   // u64
	stUID    = -16  // network.UIDSize
	stPort   = -24  // u32, the key of a port
	stOwner  = -28  // u32, who owns the port
	stOpen   = -56  // network.OpenSize
	stTuple  = -96  // struct bpf_sock_tuple, 36 bytes
	stAddr   = -128 // struct sockaddr_in or in6, 28 bytes
	stSpill  = -136
	stSpill2 = -144
	stCgroup = -152 // network.CgroupSize
)

const (
	afINET, afINET6 = 2, 10
	protoTCP        = 6
	protoUDP        = 17
	protoMPTCP      = 262
	loopbackIndex   = 1 // of lo, in every network namespace (net/core/dev.c)
)

// Error numbers that callers see; with a kernel before 5.18 it is EPERM in all cases.
const (
	eACCES, eINVAL, ePROTONOSUPPORT, eADDRINUSE, eADDRNOTAVAIL, eNETUNREACH, eCONNREFUSED = 13, 22, 93, 98, 99, 101, 111
)

// pass is where a program ends that lets the call go on as it is.
const pass = "pass"

// program is one being written.
type program struct {
	ins    asm.Instructions
	label  string // of the next instruction
	count  int
	kernel features
	maps   maps
	errnos []int
}

func (p *program) do(list ...asm.Instruction) {
	for _, i := range list {
		if p.label != "" {
			i = i.WithSymbol(p.label)
			p.label = ""
		}
		p.ins = append(p.ins, i)
	}
}

// at names the next instruction.
func (p *program) at(label string) {
	if p.label != "" { // an instruction has one name
		p.do(asm.Mov.Reg(asm.R0, asm.R0))
	}
	p.label = label
}

// fresh returns a label that nothing else has.
func (p *program) fresh(what string) string {
	p.count++
	return fmt.Sprintf("%s_%d", what, p.count)
}

func (p *program) jump(label string) { p.do(asm.Ja.Label(label)) }

// fail is the label of code that makes the system call fail.
func (p *program) fail(errno int) string {
	for _, e := range p.errnos {
		if e == errno {
			return fmt.Sprintf("errno_%d", errno)
		}
	}
	p.errnos = append(p.errnos, errno)
	return fmt.Sprintf("errno_%d", errno)
}

// verdict ends the program.
func (p *program) verdict(v int32) { p.do(asm.Mov.Imm(asm.R0, v), asm.Return()) }

// allow lets the call go on; a bind also without CAP_NET_BIND_SERVICE (Linux 5.12).
const (
	refuse        = 0
	allow         = 1
	allowLowPorts = 3
)

// finish lets the call go on, and writes what fail and pass lead to.
func (p *program) finish() {
	p.at(pass)
	p.verdict(allow)
	for _, e := range p.errnos {
		p.at(fmt.Sprintf("errno_%d", e))
		if p.kernel.setRetval {
			p.do(asm.Mov.Imm(asm.R1, int32(-e)), asm.FnSetRetval.Call())
		}
		p.verdict(refuse)
	}
}

// be32 is a number in network order, as an immediate of a machine that has it the other
// way round; the product's machines all have.
func be32(v uint32) int32 { return int32(v>>24 | v>>8&0xff00 | v<<8&0xff0000 | v<<24) }

var pool6 = [2]int32{
	be32(uint32(network.Pool6[0])<<24 | uint32(network.Pool6[1])<<16 | uint32(network.Pool6[2])<<8 | uint32(network.Pool6[3])),
	be32(uint32(network.Pool6[4])<<24 | uint32(network.Pool6[5])<<16),
}

// lookUp calls bpf_map_lookup_elem for the key on the stack.
func (p *program) lookUp(m int, key int16) {
	p.do(asm.LoadMapPtr(asm.R1, m), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(key)), asm.FnMapLookupElem.Call())
}

// flag jumps if the jail has one of the flags.
func (p *program) flag(flags int32, label string) {
	p.do(asm.LoadMem(asm.R1, self, network.JailFlags, asm.Word), asm.JSet.Imm(asm.R1, flags, label))
}

// identify finds the caller's jail, or jumps to other. It is known by its cgroup, if its ids
// are the host's, or by its real uid: a socket's own cgroup, or who made it, says nothing of
// who uses it. The cgroup comes first, since such a jail's root may have every uid.
func (p *program) identify(other string) {
	if p.kernel.netnsCookie {
		p.do(asm.Mov.Reg(asm.R1, ctx), asm.FnGetNetnsCookie.Call(),
			asm.LoadImm(asm.R1, int64(p.kernel.cookie), asm.DWord), asm.JNE.Reg(asm.R0, asm.R1, other))
	}
	known := p.fresh("known")
	if p.kernel.cgroups {
		p.do(asm.FnGetCurrentCgroupId.Call(), asm.StoreMem(asm.RFP, stCgroup, asm.R0, asm.DWord))
		p.lookUp(p.maps.cgroup, stCgroup)
		p.do(asm.JNE.Imm(asm.R0, 0, known))
	}
	p.do(asm.FnGetCurrentUidGid.Call(), asm.HostTo(asm.BE, asm.R0, asm.Word),
		asm.StoreImm(asm.RFP, stUID, 32, asm.Word), asm.StoreMem(asm.RFP, stUID+4, asm.R0, asm.Word))
	p.lookUp(p.maps.uid, stUID)
	p.do(asm.JEq.Imm(asm.R0, 0, other))
	p.at(known)
	p.do(asm.Mov.Reg(self, asm.R0))
}

// unlessRoot goes on if the caller, of no jail, is not root.
func (p *program) unlessRoot() {
	p.do(asm.FnGetCurrentUidGid.Call(), asm.Mov.Reg32(asm.R0, asm.R0), asm.JEq.Imm(asm.R0, 0, pass))
}

// loadPort loads the port of a struct bpf_sock_addr.
func (p *program) loadPort() {
	p.do(asm.LoadMem(port, ctx, saPort, asm.Word), asm.HostTo(asm.BE, port, asm.Half))
}

// load4 loads an IPv4 address into addr.
func (p *program) load4(off int16) {
	p.do(asm.LoadMem(addr, ctx, off, asm.Word), asm.HostTo(asm.BE, addr, asm.Word))
}

// findOwner stores who owns port.
func (p *program) findOwner() {
	datagram, done := p.fresh("datagram"), p.fresh("owned")
	p.do(asm.StoreImm(asm.RFP, stOwner, 0, asm.Word), asm.StoreMem(asm.RFP, stPort, port, asm.Word))
	p.lookUp(p.maps.ports, stPort)
	p.do(asm.JEq.Imm(asm.R0, 0, done), asm.LoadMem(asm.R1, ctx, saProtocol, asm.Word), asm.JEq.Imm(asm.R1, protoUDP, datagram),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.StoreMem(asm.RFP, stOwner, asm.R1, asm.Word), asm.Ja.Label(done))
	p.at(datagram)
	p.do(asm.LoadMem(asm.R1, asm.R0, 4, asm.Word), asm.StoreMem(asm.RFP, stOwner, asm.R1, asm.Word))
	p.at(done)
}

// toOwn makes of addr, one of 127.0.0.0/22 or of the jail's own block, one of that block.
// Any other leads to no.
func (p *program) toOwn(no string) {
	loopback, done := p.fresh("loopback"), p.fresh("own")
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.BlockBits4),
		asm.JEq.Imm(asm.R1, network.Loopback4>>(32-network.BlockBits4), loopback),
		asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.RSh.Imm32(asm.R2, 32-network.BlockBits4),
		asm.JEq.Reg(asm.R1, asm.R2, done), asm.Ja.Label(no))
	p.at(loopback)
	p.do(asm.And.Imm32(addr, lowBits), asm.LoadMem(asm.R1, self, network.JailBlock, asm.Word), asm.Or.Reg32(addr, asm.R1))
	p.at(done)
}

// ifPool jumps if addr stands for a jail's loopback, whosever.
func (p *program) ifPool(label string) {
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.PoolBits4), asm.JEq.Imm(asm.R1, network.Pool4>>(32-network.PoolBits4), label))
}

const lowBits = 1<<(32-network.BlockBits4) - 1

// ifOpened jumps if port of the host's loopback is opened to the jail, at addr or at ::1.
func (p *program) ifOpened(six bool, label string) {
	p.do(asm.LoadMem(asm.R1, self, network.JailID, asm.Word), asm.StoreMem(asm.RFP, stOpen, asm.R1, asm.Word),
		asm.StoreImm(asm.RFP, stOpen+4, 0, asm.Word), asm.StoreImm(asm.RFP, stOpen+8, 0, asm.Word))
	if six {
		p.do(asm.StoreImm(asm.RFP, stOpen+12, 0, asm.Word), asm.StoreImm(asm.RFP, stOpen+16, int64(be32(1)), asm.Word))
	} else {
		p.do(asm.StoreImm(asm.RFP, stOpen+12, int64(be32(0xffff)), asm.Word),
			asm.Mov.Reg32(asm.R1, addr), asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(asm.RFP, stOpen+16, asm.R1, asm.Word))
	}
	p.do(asm.StoreMem(asm.RFP, stOpen+20, port, asm.Half),
		asm.LoadMem(asm.R1, ctx, saProtocol, asm.Word), asm.StoreMem(asm.RFP, stOpen+22, asm.R1, asm.Half))
	p.lookUp(p.maps.open, stOpen)
	p.do(asm.JNE.Imm(asm.R0, 0, label))
}

// put4 makes addr the address of the call, of which the family may be IPv6.
func (p *program) put4(six bool) {
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.HostTo(asm.BE, asm.R1, asm.Word))
	if !six {
		p.do(asm.StoreMem(ctx, saIP4, asm.R1, asm.Word))
		return
	}
	p.do(asm.StoreMem(ctx, saIP6+12, asm.R1, asm.Word), asm.Mov.Imm(asm.R1, 0), asm.StoreMem(ctx, saIP6, asm.R1, asm.Word),
		asm.StoreMem(ctx, saIP6+4, asm.R1, asm.Word), asm.Mov.Imm(asm.R1, be32(0xffff)), asm.StoreMem(ctx, saIP6+8, asm.R1, asm.Word))
}

// put6 makes the jail's own IPv6 address that of the call, or its source.
func (p *program) put6(at int16) {
	for i := int16(0); i < 16; i += 4 {
		p.do(asm.LoadMem(asm.R1, self, network.JailAddress6+i, asm.Word), asm.StoreMem(ctx, at+i, asm.R1, asm.Word))
	}
}

// sort6 looks at the IPv6 address of the call: one that is mapped goes into addr and to
// mapped, :: to any, ::1 and the jail's own to loopback, another jail's to alien. The
// others go on.
func (p *program) sort6(mapped, any, loopback, alien string) {
	other, zeros, four, ours := p.fresh("other"), p.fresh("zeros"), p.fresh("four"), p.fresh("ours")
	p.do(asm.LoadMem(asm.R1, ctx, saIP6, asm.Word), asm.LoadMem(asm.R2, ctx, saIP6+4, asm.Word),
		asm.LoadMem(asm.R3, ctx, saIP6+8, asm.Word), asm.LoadMem(asm.R4, ctx, saIP6+12, asm.Word),
		asm.Mov.Reg32(asm.R5, asm.R1), asm.Or.Reg32(asm.R5, asm.R2), asm.JEq.Imm(asm.R5, 0, zeros),
		asm.Mov.Imm32(asm.R5, pool6[0]), asm.JEq.Reg(asm.R1, asm.R5, ours), asm.Ja.Label(other))
	p.at(ours)
	p.do(asm.Mov.Imm32(asm.R5, pool6[1]), asm.JNE.Reg(asm.R2, asm.R5, other), asm.JNE.Imm(asm.R3, 0, other),
		asm.LoadMem(asm.R5, self, network.JailAddress6+12, asm.Word), asm.JEq.Reg(asm.R4, asm.R5, loopback), asm.Ja.Label(alien))
	p.at(zeros)
	p.do(asm.Mov.Imm32(asm.R5, be32(0xffff)), asm.JEq.Reg(asm.R3, asm.R5, four), asm.JNE.Imm(asm.R3, 0, other),
		asm.JEq.Imm(asm.R4, 0, any), asm.JEq.Imm(asm.R4, be32(1), loopback), asm.Ja.Label(other))
	p.at(four)
	p.do(asm.Mov.Reg32(addr, asm.R4), asm.HostTo(asm.BE, addr, asm.Word), asm.Ja.Label(mapped))
	p.at(other)
}

// tag notes on a socket whose it is. It is written each time: bpf_sk_storage_get makes, but
// does not change, and a socket may have come from another jail.
func (p *program) tag(sock func(to asm.Register)) {
	done := p.fresh("tagged")
	sock(asm.R2)
	p.do(asm.JEq.Imm(asm.R2, 0, done),
		asm.LoadMem(asm.R1, self, network.JailID, asm.Word), asm.StoreMem(asm.RFP, stTag, asm.R1, asm.DWord),
		asm.LoadMapPtr(asm.R1, p.maps.tag), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, stTag), asm.Mov.Imm(asm.R4, 1), // BPF_SK_STORAGE_GET_F_CREATE
		asm.FnSkStorageGet.Call(), asm.JEq.Imm(asm.R0, 0, done),
		asm.LoadMem(asm.R1, self, network.JailID, asm.Word), asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord))
	p.at(done)
}

// tagSock is tag for the socket of a struct bpf_sock_addr.
func (p *program) tagSock() {
	p.tag(func(to asm.Register) { p.do(asm.LoadMem(to, ctx, saSock, asm.DWord)) })
}

// found is where findSocket leads, by whose socket a packet would reach.
type found struct{ mine, foreign, none string }

// search is what findSocket looks for.
type search struct {
	six    bool // at the jail's IPv6 address, not at addr
	tagged bool // one with the jail's address counts only with its tag as well
	dual   bool // an IPv4 socket counts as none: one of both families is looked for
}

// findSocket looks for the socket that a packet to addr, or to the jail's IPv6 address,
// and port would reach. It is asked before the packet is sent, so that who is refused is
// so at once. A socket on the jail's address is its own, one on all addresses if it has
// its tag.
func (p *program) findSocket(s search, to found) {
	datagram, done, mine, foreign := p.fresh("datagram"), p.fresh("looked"), p.fresh("mine"), p.fresh("foreign")
	size := int32(12)
	if s.six {
		size = 36
		for i := int16(0); i < 16; i += 4 {
			p.do(asm.LoadMem(asm.R1, self, network.JailAddress6+i, asm.Word),
				asm.StoreMem(asm.RFP, stTuple+i, asm.R1, asm.Word), asm.StoreMem(asm.RFP, stTuple+16+i, asm.R1, asm.Word))
		}
	} else {
		p.do(asm.Mov.Reg32(asm.R1, addr), asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.StoreMem(asm.RFP, stTuple, asm.R1, asm.Word), asm.StoreMem(asm.RFP, stTuple+4, asm.R1, asm.Word))
	}
	ports := int16(stTuple) + int16(size) - 4
	p.do(asm.Mov.Reg32(asm.R1, port), asm.HostTo(asm.BE, asm.R1, asm.Half), asm.LSh.Imm32(asm.R1, 16), asm.StoreMem(asm.RFP, ports, asm.R1, asm.Word))
	args := func() {
		p.do(asm.Mov.Reg(asm.R1, ctx), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stTuple), asm.Mov.Imm(asm.R3, size),
			asm.Mov.Imm(asm.R4, -1), asm.Mov.Imm(asm.R5, 0)) // BPF_F_CURRENT_NETNS
	}
	p.do(asm.LoadMem(asm.R1, ctx, saProtocol, asm.Word), asm.JEq.Imm(asm.R1, protoUDP, datagram))
	args()
	p.do(asm.FnSkLookupTcp.Call(), asm.Ja.Label(done))
	p.at(datagram)
	if !s.six {
		// A connected peer is found only by where the packet comes from.
		unknown := p.fresh("unknown")
		p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, unknown),
			asm.LoadMem(asm.R2, asm.R1, skSourcePort, asm.Word), asm.HostTo(asm.BE, asm.R2, asm.Half), asm.StoreMem(asm.RFP, ports, asm.R2, asm.Half))
		p.at(unknown)
		p.do(asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.Or.Imm32(asm.R2, 1), asm.HostTo(asm.BE, asm.R2, asm.Word),
			asm.StoreMem(asm.RFP, stTuple, asm.R2, asm.Word))
	}
	args()
	p.do(asm.FnSkLookupUdp.Call())
	p.at(done)
	some := p.fresh("some")
	p.do(asm.JNE.Imm(asm.R0, 0, some), asm.Ja.Label(to.none))
	p.at(some)
	p.do(asm.StoreMem(asm.RFP, stSpill, asm.R0, asm.DWord))
	release := func(then string) {
		p.do(asm.LoadMem(asm.R1, asm.RFP, stSpill, asm.DWord), asm.FnSkRelease.Call(), asm.Ja.Label(then))
	}
	if s.dual {
		six := p.fresh("six")
		p.do(asm.LoadMem(asm.R1, asm.R0, skFamily, asm.Word), asm.JEq.Imm(asm.R1, afINET6, six))
		release(to.none)
		p.at(six)
		p.do(asm.LoadMem(asm.R0, asm.RFP, stSpill, asm.DWord))
	}
	if !s.tagged {
		source := int16(skSource4)
		if s.six {
			source = skSource6
		}
		p.do(asm.LoadMem(asm.R1, asm.R0, source, asm.Word), asm.JNE.Imm(asm.R1, 0, mine))
	}
	p.do(asm.Mov.Reg(asm.R2, asm.R0), asm.LoadMapPtr(asm.R1, p.maps.tag), asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0), asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, foreign), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.LoadMem(asm.R2, self, network.JailID, asm.Word), asm.JEq.Reg(asm.R1, asm.R2, mine))
	p.at(foreign)
	release(to.foreign)
	p.at(mine)
	release(to.mine)
}

// bindToLoopback gives a socket without an address ::1, before it connects to a jail's: the
// kernel's choice would be that same address, where answers reach nobody but the jail.
func (p *program) bindToLoopback() {
	done := p.fresh("bound")
	p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, done),
		asm.LoadMem(asm.R2, asm.R1, skSource6+12, asm.Word), asm.JNE.Imm(asm.R2, 0, done),
		asm.StoreImm(asm.RFP, stAddr, afINET6, asm.Word), asm.StoreImm(asm.RFP, stAddr+4, 0, asm.Word), asm.StoreImm(asm.RFP, stAddr+8, 0, asm.Word), asm.StoreImm(asm.RFP, stAddr+12, 0, asm.Word),
		asm.StoreImm(asm.RFP, stAddr+16, 0, asm.Word), asm.StoreImm(asm.RFP, stAddr+20, int64(be32(1)), asm.Word), asm.StoreImm(asm.RFP, stAddr+24, 0, asm.Word),
		asm.Mov.Reg(asm.R1, ctx), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stAddr), asm.Mov.Imm(asm.R3, 28), asm.FnBind.Call())
	p.at(done)
}

// bindSource gives a socket without an address the jail's own, before it connects: the
// kernel's choice would be 127.0.0.1, where no answer comes.
func (p *program) bindSource(six bool) {
	done := p.fresh("bound")
	p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, done))
	if six {
		p.do(asm.LoadMem(asm.R2, asm.R1, skSource6+12, asm.Word), asm.JNE.Imm(asm.R2, 0, done), asm.LoadMem(asm.R2, asm.R1, skSource6, asm.Word), asm.JNE.Imm(asm.R2, 0, done),
			asm.StoreImm(asm.RFP, stAddr, afINET6, asm.Word), asm.StoreImm(asm.RFP, stAddr+4, 0, asm.Word), asm.StoreImm(asm.RFP, stAddr+24, 0, asm.Word))
		for i := int16(0); i < 16; i += 4 {
			p.do(asm.LoadMem(asm.R1, self, network.JailAddress6+i, asm.Word), asm.StoreMem(asm.RFP, stAddr+8+i, asm.R1, asm.Word))
		}
		p.do(asm.Mov.Reg(asm.R1, ctx), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stAddr), asm.Mov.Imm(asm.R3, 28), asm.FnBind.Call())
	} else {
		p.do(asm.LoadMem(asm.R2, asm.R1, skSource4, asm.Word), asm.JNE.Imm(asm.R2, 0, done),
			asm.StoreImm(asm.RFP, stAddr, afINET, asm.Word), asm.StoreImm(asm.RFP, stAddr+8, 0, asm.Word), asm.StoreImm(asm.RFP, stAddr+12, 0, asm.Word),
			asm.LoadMem(asm.R1, self, network.JailBlock, asm.Word), asm.Or.Imm32(asm.R1, 1), asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(asm.RFP, stAddr+4, asm.R1, asm.Word),
			asm.Mov.Reg(asm.R1, ctx), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stAddr), asm.Mov.Imm(asm.R3, 16), asm.FnBind.Call())
	}
	p.at(done)
}
