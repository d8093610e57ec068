package netload

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"jail/internal/network"
)

// hook is one program and where it is attached.
type hook struct {
	name   string // of its pin, and in bpftool, after jail_
	kind   ebpf.ProgramType
	attach ebpf.AttachType
	write  func(*program)
}

// hooks are all programs. Each calls one helper or compares one address before it looks who
// the caller is, where it can: they run for every process of the host.
var hooks = []hook{
	{"bind4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Bind, func(p *program) { p.bind(false) }},
	{"bind6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Bind, func(p *program) { p.bind(true) }},
	{"postbind4", ebpf.CGroupSock, ebpf.AttachCGroupInet4PostBind, (*program).postBind},
	{"postbind6", ebpf.CGroupSock, ebpf.AttachCGroupInet6PostBind, (*program).postBind},
	{"create", ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate, (*program).create},
	{"connect4", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, (*program).connect4},
	{"connect6", ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Connect, (*program).connect6},
	{"sendmsg4", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Sendmsg, (*program).send4},
	{"sendmsg6", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Sendmsg, (*program).send6},
	{"recvmsg4", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP4Recvmsg, (*program).name4},
	{"recvmsg6", ebpf.CGroupSockAddr, ebpf.AttachCGroupUDP6Recvmsg, (*program).name6},
	{"sockname4", ebpf.CGroupSockAddr, ebpf.AttachCgroupInet4GetSockname, (*program).name4},
	{"sockname6", ebpf.CGroupSockAddr, ebpf.AttachCgroupInet6GetSockname, (*program).name6},
	{"peername4", ebpf.CGroupSockAddr, ebpf.AttachCgroupInet4GetPeername, (*program).name4},
	{"peername6", ebpf.CGroupSockAddr, ebpf.AttachCgroupInet6GetPeername, (*program).name6},
	{"ingress", ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, (*program).ingress},
}

// bind judges bind(2) by a jail:
//
//	address                port                        result
//	external or wildcard   0, or the jail's own        as asked, also a low one
//	TCP wildcard           not its own, FlagPrivate    on its loopback
//	external, wildcard     not its own                 EACCES (without FlagPorts: not nobody's)
//	loopback               opened, or somebody else's  EADDRINUSE
//	loopback               its own, or nobody's        on its loopback
//	another jail's         any                         EADDRNOTAVAIL
//
// With FlagNone every wildcard is on its loopback and nothing external can be had. Others
// than jails and root do not get a port that a jail owns.
func (p *program) bind(six bool) {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.identify("host")
	p.loadPort()
	p.findOwner()
	if six {
		p.sort6("four", "wildcard", "six", p.fail(eADDRNOTAVAIL))
		p.do(asm.Mov.Imm(addr, 1), asm.Ja.Label("outside")) // any that is not zero
		p.at("wildcard")
		p.do(asm.Mov.Imm(addr, 0), asm.Ja.Label("outside"))
		p.at("six")
		p.flag(network.FlagLoopback, "own6")
		p.do(asm.Mov.Imm(addr, 1), asm.Ja.Label("outside"))
		p.at("own6")
		p.ifOpened(true, p.fail(eADDRINUSE))
		p.ownLoopback(func() { p.put6(saIP6) })
		p.at("four")
	} else {
		p.load4(saIP4)
	}
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JEq.Imm(asm.R1, 127, "loopback"))
	p.at("outside")
	p.flag(network.FlagNone, "none")
	p.flag(network.FlagPorts, "limited")
	// A jail of any ports has those that are nobody's.
	p.do(asm.JEq.Imm(port, 0, pass), asm.LoadMem(asm.R1, asm.RFP, stOwner, asm.Word), asm.JEq.Imm(asm.R1, 0, pass), asm.Ja.Label(p.fail(eACCES)))
	p.at("none")
	p.do(asm.JNE.Imm(addr, 0, p.fail(eADDRNOTAVAIL)), asm.Ja.Label("private"))
	p.at("limited")
	p.do(asm.JEq.Imm(port, 0, pass),
		asm.LoadMem(asm.R1, asm.RFP, stOwner, asm.Word), asm.LoadMem(asm.R2, self, network.JailID, asm.Word), asm.JNE.Reg(asm.R1, asm.R2, "unowned"))
	p.verdict(allowLowPorts)
	p.at("unowned")
	p.do(asm.JNE.Imm(addr, 0, p.fail(eACCES)),
		asm.LoadMem(asm.R1, ctx, saProtocol, asm.Word), asm.JNE.Imm(asm.R1, protoTCP, p.fail(eACCES)))
	p.flag(network.FlagPrivate, "private")
	p.jump(p.fail(eACCES))
	p.at("private")
	if six {
		// A socket for IPv6 only has its loopback there. skc_ipv6only is the sixth bit of
		// the twentieth byte of struct sock_common (include/net/sock.h, since 3.14).
		p.onlySix("own6")
	}
	p.do(asm.Mov.Imm32(addr, network.Loopback4+1), asm.Ja.Label("own"))
	p.at("loopback")
	p.flag(network.FlagLoopback, "own")
	p.ifPool(p.fail(eADDRNOTAVAIL))
	p.jump("outside")
	p.at("own")
	p.ifOpened(false, p.fail(eADDRINUSE))
	p.toOwn(p.fail(eADDRNOTAVAIL))
	p.ownLoopback(func() { p.put4(six) })

	p.at("host")
	p.notOurNamespace()
	p.bindToJail(six)
	p.loadPort()
	p.do(asm.JEq.Imm(port, 0, pass))
	p.unlessRoot()
	p.findOwner()
	p.do(asm.LoadMem(asm.R1, asm.RFP, stOwner, asm.Word), asm.JEq.Imm(asm.R1, 0, pass),
		asm.Mov.Imm32(asm.R2, -1), asm.JEq.Reg(asm.R1, asm.R2, pass), asm.Ja.Label(p.fail(eACCES)))
	p.finish()
}

// bindToJail refuses what stands for a jail's loopback to others than root: who waits there
// keeps the jail from its port.
func (p *program) bindToJail(six bool) {
	alias, other := "alias", "other"
	if six {
		p.do(asm.LoadMem(asm.R1, ctx, saIP6, asm.Word), asm.JEq.Imm(asm.R1, 0, "mapped"), asm.Mov.Imm32(asm.R2, pool6[0]), asm.JNE.Reg(asm.R1, asm.R2, other),
			asm.LoadMem(asm.R1, ctx, saIP6+4, asm.Word), asm.Mov.Imm32(asm.R2, pool6[1]), asm.JNE.Reg(asm.R1, asm.R2, other), asm.Ja.Label(alias))
		p.at("mapped")
		p.do(asm.LoadMem(asm.R1, ctx, saIP6+8, asm.Word), asm.Mov.Imm32(asm.R2, be32(0xffff)), asm.JNE.Reg(asm.R1, asm.R2, other))
		p.load4(saIP6 + 12)
	} else {
		p.load4(saIP4)
	}
	p.ifPool(alias)
	p.jump(other)
	p.at(alias)
	p.unlessRoot()
	p.jump(p.fail(eADDRNOTAVAIL))
	p.at(other)
}

// notOurNamespace lets what is in another network namespace pass.
func (p *program) notOurNamespace() {
	if p.kernel.netnsCookie {
		p.do(asm.Mov.Reg(asm.R1, ctx), asm.FnGetNetnsCookie.Call(),
			asm.LoadImm(asm.R1, int64(p.kernel.cookie), asm.DWord), asm.JNE.Reg(asm.R0, asm.R1, pass))
	}
}

// onlySix jumps if the socket is for IPv6 only.
func (p *program) onlySix(label string) {
	if !p.kernel.sockFields {
		return
	}
	found, dual := p.fresh("known"), p.fresh("dual")
	for _, as := range []asm.BuiltinFunc{asm.FnSkcToTcp6Sock, asm.FnSkcToUdp6Sock} {
		next := p.fresh("next")
		p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, dual), as.Call(), asm.JEq.Imm(asm.R0, 0, next))
		p.do(asm.LoadMem(asm.R1, asm.R0, 19, asm.Byte), asm.Ja.Label(found))
		p.at(next)
	}
	p.jump(dual)
	p.at(found)
	p.do(asm.JSet.Imm(asm.R1, 1<<5, label))
	p.at(dual)
}

// ownLoopback ends a bind to the jail's own loopback: put writes the address.
func (p *program) ownLoopback(put func()) {
	own, free := p.fresh("owned"), p.fresh("free")
	p.do(asm.LoadMem(asm.R1, asm.RFP, stOwner, asm.Word), asm.LoadMem(asm.R2, self, network.JailID, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, own), asm.JEq.Imm(asm.R1, 0, free), asm.Ja.Label(p.fail(eADDRINUSE)))
	p.at(own)
	put()
	p.verdict(allowLowPorts)
	p.at(free)
	put()
	p.verdict(allow) // the kernel asks for the capability below 1024
}

// postBind refuses a port that the kernel has chosen and that is another jail's, and tags: the
// sockets below an MPTCP one are made by the kernel, which create does not see.
func (p *program) postBind() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.identify(pass)
	p.tag(func(to asm.Register) { p.do(asm.Mov.Reg(to, ctx)) })
	p.do(asm.LoadMem(port, ctx, skSourcePort, asm.Word), asm.StoreMem(asm.RFP, stPort, port, asm.Word))
	p.lookUp(p.maps.ports, stPort)
	p.do(asm.JEq.Imm(asm.R0, 0, pass), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.LoadMem(asm.R2, ctx, skProtocol, asm.Word), asm.JNE.Imm(asm.R2, protoUDP, "stream"), asm.LoadMem(asm.R1, asm.R0, 4, asm.Word))
	p.at("stream")
	p.do(asm.JEq.Imm(asm.R1, 0, pass), asm.Mov.Imm32(asm.R2, -1), asm.JEq.Reg(asm.R1, asm.R2, pass), asm.LoadMem(asm.R2, self, network.JailID, asm.Word), asm.JEq.Reg(asm.R1, asm.R2, pass))
	p.verdict(refuse)
	p.finish()
}

// create tags a socket that a jail makes. One of a jail without a network is bound to the
// loopback interface, also should it listen without a bind, which no program sees; who is
// not CAP_NET_RAW cannot change that (sock_setsockopt, SO_BINDTODEVICE).
func (p *program) create() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.identify(pass)
	p.flag(network.FlagNone, "none")
	p.jump("tag")
	p.at("none")
	for _, protocol := range []int32{protoTCP, protoUDP} {
		p.do(asm.LoadMem(asm.R1, ctx, skProtocol, asm.Word), asm.JEq.Imm(asm.R1, protocol, "device"))
	}
	p.jump(p.fail(ePROTONOSUPPORT)) // ping sockets and MPTCP
	p.at("device")
	p.do(asm.Mov.Imm(asm.R1, loopbackIndex), asm.StoreMem(ctx, skDevice, asm.R1, asm.Word))
	p.at("tag")
	p.tag(func(to asm.Register) { p.do(asm.Mov.Reg(to, ctx)) })
	p.finish()
}

// anyIsLoopback makes 127.0.0.1 of 0.0.0.0, which as a destination means it.
func (p *program) anyIsLoopback() {
	done := p.fresh("some")
	p.do(asm.JNE.Imm(addr, 0, done), asm.Mov.Imm32(addr, network.Loopback4+1))
	p.at(done)
}

// connect4 judges connect(2) to IPv4.
func (p *program) connect4() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.load4(saIP4)
	p.anyIsLoopback()
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JNE.Imm(asm.R1, 127, "remote"))
	p.identify("stranger")
	p.connectLoopback(false)
	p.at("remote")
	p.identify(pass)
	p.flag(network.FlagNone, p.fail(eNETUNREACH))
	// From the loopback to elsewhere there is no way, as in a network namespace.
	p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, pass), asm.LoadMem(asm.R2, asm.R1, skSource4, asm.Word))
	p.ifPoolSource(asm.R2, p.fail(eINVAL))
	p.jump(pass)
	p.at("stranger")
	p.strangerTo4()
	p.finish()
}

// ifPoolSource jumps if an address in network order stands for a jail's loopback.
func (p *program) ifPoolSource(r asm.Register, label string) {
	p.do(asm.HostTo(asm.BE, r, asm.Word), asm.RSh.Imm32(r, 32-network.PoolBits4), asm.JEq.Imm(r, network.Pool4>>(32-network.PoolBits4), label))
}

// connectLoopback ends a connect to addr, of 127.0.0.0/8.
func (p *program) connectLoopback(six bool) {
	p.loadPort()
	p.flag(network.FlagLoopback, "loopback")
	p.ifPool(p.fail(eCONNREFUSED))
	p.jump(pass)
	p.at("loopback")
	p.ifOpened(false, pass)
	p.toOwn(p.fail(eCONNREFUSED))
	p.findSocket(search{}, found{"there", p.fail(eCONNREFUSED), "there"}) // nobody there: the kernel says so
	p.at("there")
	if !six {
		p.bindSource(false)
	}
	p.tagSock()
	p.put4(six)
	p.verdict(allow)
}

// strangerTo4 ends a call of nobody of a jail: the jails' loopbacks are theirs and root's.
func (p *program) strangerTo4() {
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.PoolBits4), asm.JNE.Imm(asm.R1, network.Pool4>>(32-network.PoolBits4), pass))
	p.notOurNamespace()
	p.unlessRoot()
	p.jump(p.fail(eCONNREFUSED))
}

// connect6 judges connect(2) to IPv6, and by an IPv6 socket to IPv4.
func (p *program) connect6() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.identify("stranger")
	p.sort6("four", "six", "six", p.fail(eCONNREFUSED))
	p.at("remote")
	p.flag(network.FlagNone, p.fail(eNETUNREACH))
	p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, pass), asm.LoadMem(asm.R2, asm.R1, skSource6, asm.Word),
		asm.Mov.Imm32(asm.R3, pool6[0]), asm.JEq.Reg(asm.R2, asm.R3, p.fail(eINVAL)),
		asm.LoadMem(asm.R2, asm.R1, skSource4, asm.Word)) // of one that is mapped
	p.ifPoolSource(asm.R2, p.fail(eINVAL))
	p.jump(pass)
	p.at("six")
	p.loadPort()
	p.flag(network.FlagLoopback, "loopback6")
	p.jump(pass)
	p.at("loopback6")
	p.ifOpened(true, pass)
	p.findSocket(search{six: true}, found{"there6", p.fail(eCONNREFUSED), "nobody6"})
	p.at("nobody6") // a listener for both families that is private is on IPv4
	p.do(asm.LoadMem(addr, self, network.JailBlock, asm.Word), asm.Or.Imm32(addr, 1))
	p.findSocket(search{dual: true}, found{"there", "there6", "there6"})
	p.at("there6")
	p.bindSource(true)
	p.tagSock()
	p.put6(saIP6)
	p.verdict(allow)
	p.at("four")
	p.anyIsLoopback()
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JNE.Imm(asm.R1, 127, "remote"))
	p.connectLoopback(true)
	p.at("stranger")
	p.strangerTo6("root")
	p.at("root")
	p.bindToLoopback()
	p.finish()
}

// strangerTo6 is strangerTo4 for IPv6, of which root's calls go on at root.
func (p *program) strangerTo6(root string) {
	p.do(asm.LoadMem(asm.R1, ctx, saIP6, asm.Word), asm.JEq.Imm(asm.R1, 0, "mapped"), asm.Mov.Imm32(asm.R2, pool6[0]), asm.JNE.Reg(asm.R1, asm.R2, pass),
		asm.LoadMem(asm.R1, ctx, saIP6+4, asm.Word), asm.Mov.Imm32(asm.R2, pool6[1]), asm.JNE.Reg(asm.R1, asm.R2, pass))
	p.notOurNamespace()
	p.do(asm.FnGetCurrentUidGid.Call(), asm.Mov.Reg32(asm.R0, asm.R0), asm.JEq.Imm(asm.R0, 0, root), asm.Ja.Label(p.fail(eCONNREFUSED)))
	p.at("mapped")
	p.do(asm.LoadMem(asm.R1, ctx, saIP6+8, asm.Word), asm.Mov.Imm32(asm.R2, be32(0xffff)), asm.JNE.Reg(asm.R1, asm.R2, pass))
	p.load4(saIP6 + 12)
	p.strangerTo4()
}

// send4 judges sendto(2) and sendmsg(2) of UDP over IPv4, by an IPv6 socket too. A
// connected socket comes here only with control data, then without an address and with
// port 0: then it is about the source alone. A source may be given (IP_PKTINFO, ip(7)): what
// stands for a jail's loopback nobody but that jail and root gives, since the answer goes there.
func (p *program) send4() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.loadPort()
	p.do(asm.JEq.Imm(port, 0, "connected"))
	p.load4(saIP4)
	p.anyIsLoopback()
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JNE.Imm(asm.R1, 127, "remote"))
	p.identify("stranger")
	p.flag(network.FlagLoopback, "loopback")
	p.ifPool(p.fail(eCONNREFUSED))
	p.do(asm.LoadMem(asm.R1, ctx, saSource4, asm.Word))
	p.ifPoolSource(asm.R1, p.fail(eINVAL))
	p.jump(pass)
	p.at("opened")
	p.load4(saSource4)
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JNE.Imm(asm.R1, 127, pass),
		asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.RSh.Imm32(asm.R2, 32-network.BlockBits4), asm.Ja.Label("real"))
	p.at("loopback")
	p.ifOpened(false, "opened")
	p.toOwn(p.fail(eCONNREFUSED))
	p.findSocket(search{}, found{"there", p.fail(eCONNREFUSED), "nobody"})
	// A peer of the jail's that is on the real 127.0.0.1: one that had a port and no address
	// when it connected to an opened service.
	p.at("nobody")
	p.do(asm.StoreMem(asm.RFP, stSpill2, addr, asm.DWord), asm.Mov.Imm32(addr, network.Loopback4+1))
	p.findSocket(search{tagged: true}, found{pass, "back", "back"})
	p.at("back")
	p.do(asm.LoadMem(addr, asm.RFP, stSpill2, asm.DWord))
	p.at("there")
	p.do(asm.LoadMem(asm.R1, ctx, saSource4, asm.Word), asm.JNE.Imm(asm.R1, 0, "source"),
		asm.LoadMem(asm.R1, self, network.JailBlock, asm.Word), asm.Or.Imm32(asm.R1, 1), asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(ctx, saSource4, asm.R1, asm.Word),
		asm.Ja.Label("send"))
	p.at("source") // bound, or given by IP_PKTINFO
	p.do(asm.HostTo(asm.BE, asm.R1, asm.Word), asm.Mov.Reg32(asm.R2, asm.R1), asm.RSh.Imm32(asm.R2, 24), asm.JNE.Imm(asm.R2, 127, "send"),
		asm.Mov.Reg32(asm.R2, asm.R1), asm.RSh.Imm32(asm.R2, 32-network.BlockBits4), asm.LoadMem(asm.R3, self, network.JailBlock, asm.Word),
		asm.RSh.Imm32(asm.R3, 32-network.BlockBits4), asm.JEq.Reg(asm.R2, asm.R3, "send"),
		asm.JNE.Imm(asm.R2, network.Loopback4>>(32-network.BlockBits4), p.fail(eINVAL)),
		asm.And.Imm32(asm.R1, lowBits), asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.Or.Reg32(asm.R1, asm.R2),
		asm.HostTo(asm.BE, asm.R1, asm.Word), asm.StoreMem(ctx, saSource4, asm.R1, asm.Word))
	p.at("send")
	p.put4(false)
	p.verdict(allow)

	p.at("remote")
	p.do(asm.LoadMem(asm.R2, ctx, saSource4, asm.Word))
	p.ifPoolSource(asm.R2, "alias")
	p.identify(pass)
	p.flag(network.FlagNone, p.fail(eNETUNREACH))
	p.jump(pass)
	p.at("alias")
	p.identify("borrowed")
	p.flag(network.FlagNone, p.fail(eNETUNREACH))
	p.jump(p.fail(eINVAL))

	p.at("connected")
	p.load4(saSource4)
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 24), asm.JNE.Imm(asm.R1, 127, pass))
	p.identify("unknown")
	p.do(asm.LoadMem(asm.R1, ctx, saSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, pass), asm.LoadMem(asm.R1, asm.R1, skDest4, asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.RSh.Imm32(asm.R1, 32-network.BlockBits4), asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.RSh.Imm32(asm.R2, 32-network.BlockBits4),
		asm.JNE.Reg(asm.R1, asm.R2, "elsewhere"))
	p.toOwn(p.fail(eINVAL))
	p.do(asm.HostTo(asm.BE, addr, asm.Word), asm.StoreMem(ctx, saSource4, addr, asm.Word), asm.Ja.Label(pass))
	p.at("elsewhere") // an opened port of the host's loopback, or the network
	p.do(asm.JNE.Imm(asm.R1, network.Loopback4>>(32-network.BlockBits4), p.fail(eINVAL)))
	p.at("real") // the host's loopback, of which the jail sees a part
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.BlockBits4),
		asm.JEq.Imm(asm.R1, network.Loopback4>>(32-network.BlockBits4), pass), asm.JEq.Reg(asm.R1, asm.R2, pass), asm.Ja.Label(p.fail(eINVAL)))

	p.at("unknown")
	p.ifPool("borrowed")
	p.jump(pass)
	p.at("stranger")
	p.do(asm.LoadMem(asm.R1, ctx, saSource4, asm.Word))
	p.ifPoolSource(asm.R1, "borrowed")
	p.strangerTo4()
	p.at("borrowed")
	p.notOurNamespace()
	p.unlessRoot()
	p.jump(p.fail(eINVAL))
	p.finish()
}

// send6 is send4 for IPv6. What is mapped comes to send4.
func (p *program) send6() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.loadPort()
	p.do(asm.JEq.Imm(port, 0, "connected"))
	p.identify("stranger")
	p.sort6(pass, "six", "six", p.fail(eCONNREFUSED))
	p.flag(network.FlagNone, p.fail(eNETUNREACH))
	p.unlessPoolSource6(pass)
	p.jump(p.fail(eINVAL))
	p.at("six")
	p.flag(network.FlagLoopback, "loopback")
	p.unlessPoolSource6(pass)
	p.jump(p.fail(eINVAL))
	p.at("loopback")
	p.ifOpened(true, "opened")
	p.findSocket(search{six: true}, found{"there", p.fail(eCONNREFUSED), "there"})
	p.at("there")
	p.put6(saSource6)
	p.put6(saIP6)
	p.verdict(allow)
	p.at("opened") // its source is like that of one that is connected
	p.unlessPoolSource6(pass)
	p.jump("own")
	p.at("connected")
	p.unlessPoolSource6(pass)
	p.identify("borrowed")
	p.at("own")
	p.do(asm.LoadMem(asm.R1, ctx, saSource6+12, asm.Word), asm.LoadMem(asm.R2, self, network.JailAddress6+12, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, pass), asm.Ja.Label(p.fail(eINVAL)))
	p.at("stranger")
	p.unlessPoolSource6("to")
	p.at("borrowed")
	p.notOurNamespace()
	p.unlessRoot()
	p.jump(p.fail(eINVAL))
	p.at("to")
	p.strangerTo6(pass)
	p.finish()
}

// unlessPoolSource6 jumps unless the source of a call stands for a jail's ::1.
func (p *program) unlessPoolSource6(label string) {
	p.do(asm.LoadMem(asm.R1, ctx, saSource6, asm.Word), asm.Mov.Imm32(asm.R2, pool6[0]), asm.JNE.Reg(asm.R1, asm.R2, label),
		asm.LoadMem(asm.R1, ctx, saSource6+4, asm.Word), asm.Mov.Imm32(asm.R2, pool6[1]), asm.JNE.Reg(asm.R1, asm.R2, label))
}

// name4 is the way back: what getsockname(2), getpeername(2), accept(2) and recvmsg(2) show
// a jail of its own addresses are those of the loopback.
func (p *program) name4() {
	p.do(asm.Mov.Reg(ctx, asm.R1))
	p.load4(saIP4)
	p.nativeName(func() { p.do(asm.StoreMem(ctx, saIP4, addr, asm.Word)) })
	p.finish()
}

// nativeName ends a name hook for addr: put writes it, in network order.
func (p *program) nativeName(put func()) {
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.PoolBits4), asm.JNE.Imm(asm.R1, network.Pool4>>(32-network.PoolBits4), pass))
	p.identify(pass)
	p.do(asm.Mov.Reg32(asm.R1, addr), asm.And.Imm32(asm.R1, ^int32(lowBits)), asm.LoadMem(asm.R2, self, network.JailBlock, asm.Word), asm.JNE.Reg(asm.R1, asm.R2, pass),
		asm.And.Imm32(addr, lowBits), asm.Or.Imm32(addr, network.Loopback4), asm.HostTo(asm.BE, addr, asm.Word))
	put()
	p.verdict(allow)
}

func (p *program) name6() {
	p.do(asm.Mov.Reg(ctx, asm.R1),
		asm.LoadMem(asm.R1, ctx, saIP6, asm.Word), asm.LoadMem(asm.R2, ctx, saIP6+8, asm.Word), asm.LoadMem(addr, ctx, saIP6+12, asm.Word),
		asm.Mov.Imm32(asm.R3, pool6[0]), asm.JEq.Reg(asm.R1, asm.R3, "six"), asm.JNE.Imm(asm.R1, 0, pass),
		asm.Mov.Imm32(asm.R3, be32(0xffff)), asm.JNE.Reg(asm.R2, asm.R3, pass), asm.HostTo(asm.BE, addr, asm.Word))
	p.nativeName(func() { p.do(asm.StoreMem(ctx, saIP6+12, addr, asm.Word)) })
	p.at("six")
	p.identify(pass)
	p.do(asm.LoadMem(asm.R2, self, network.JailAddress6+12, asm.Word), asm.JNE.Reg(addr, asm.R2, pass), asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(ctx, saIP6, asm.R1, asm.Word), asm.StoreMem(ctx, saIP6+4, asm.R1, asm.Word), asm.StoreMem(ctx, saIP6+8, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R1, be32(1)), asm.StoreMem(ctx, saIP6+12, asm.R1, asm.Word))
	p.finish()
}

// ingress drops what is sent to one jail's loopback and would reach a socket that is not
// that jail's: a wildcard listener takes packets for all of 127.0.0.0/8. It is there for
// what comes between a look and the packet, and for who does not look.
func (p *program) ingress() {
	p.do(asm.Mov.Reg(ctx, asm.R1),
		asm.LoadMem(asm.R2, ctx, skbData, asm.Word), asm.LoadMem(asm.R3, ctx, skbDataEnd, asm.Word), asm.LoadMem(asm.R1, ctx, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, 0x0008, "four"), asm.JEq.Imm(asm.R1, 0xdd86, "six"), asm.Ja.Label(pass))
	p.at("four")
	p.do(asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 20), asm.JGT.Reg(asm.R4, asm.R3, pass),
		asm.LoadMem(addr, asm.R2, 16, asm.Word), asm.HostTo(asm.BE, addr, asm.Word),
		asm.Mov.Reg32(asm.R1, addr), asm.RSh.Imm32(asm.R1, 32-network.PoolBits4), asm.JNE.Imm(asm.R1, network.Pool4>>(32-network.PoolBits4), pass),
		asm.RSh.Imm32(addr, 32-network.BlockBits4), asm.And.Imm32(addr, 1<<(network.BlockBits4-network.PoolBits4)-1), asm.Add.Imm32(addr, 1), asm.Ja.Label("whose"))
	p.at("six")
	p.do(asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, 40), asm.JGT.Reg(asm.R4, asm.R3, pass),
		asm.LoadMem(asm.R1, asm.R2, 24, asm.Word), asm.Mov.Imm32(asm.R4, pool6[0]), asm.JNE.Reg(asm.R1, asm.R4, pass),
		asm.LoadMem(asm.R1, asm.R2, 28, asm.Word), asm.Mov.Imm32(asm.R4, pool6[1]), asm.JNE.Reg(asm.R1, asm.R4, pass),
		asm.LoadMem(addr, asm.R2, 36, asm.Word), asm.HostTo(asm.BE, addr, asm.Word))
	p.at("whose")
	if p.kernel.packetCookie {
		p.notOurNamespace()
	}
	p.do(asm.LoadMem(asm.R1, ctx, skbSock, asm.DWord), asm.JEq.Imm(asm.R1, 0, "drop"), asm.FnSkFullsock.Call(), asm.JEq.Imm(asm.R0, 0, pass),
		asm.Mov.Reg(asm.R2, asm.R0), asm.LoadMapPtr(asm.R1, p.maps.tag), asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0), asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.JEq.Reg(asm.R1, addr, pass))
	p.at("drop")
	p.verdict(refuse)
	p.finish()
}
