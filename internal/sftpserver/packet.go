package sftpserver

// reader takes a message apart. After the first violation every further read
// yields zero values and bad is set; the client has broken the protocol then and
// is not answered any more.
//
// It is not that of wire, which has the other byte order, strings that end in a NUL,
// and limits for each: take and u8 are all they could share.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() uint8 {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return getU32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	hi := r.u32()
	return uint64(hi)<<32 | uint64(r.u32())
}

// bytes reads a string of any content. It is a part of the message.
func (r *reader) bytes() []byte { return r.take(uint64(r.u32())) }

// text reads a string that is a C string: a NUL may only be its last byte, and is
// dropped (sshbuf-getput-basic.c, sshbuf_get_cstring).
func (r *reader) text() string {
	p := r.bytes()
	for i, c := range p {
		if c != 0 {
			continue
		}
		if i != len(p)-1 {
			r.bad = true
			return ""
		}
		p = p[:i]
	}
	return string(p)
}

// handle reads a handle; -1 stands for whatever cannot be one.
func (r *reader) handle() int {
	p := r.bytes()
	if len(p) != 4 || p[0] > 0x7F {
		return -1
	}
	return int(getU32(p))
}

func (r *reader) attrs() attrs {
	a := attrs{flags: r.u32()}
	if a.flags&attrSize != 0 {
		a.size = r.u64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = r.u32(), r.u32()
	}
	if a.flags&attrPermissions != 0 {
		a.perm = r.u32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = r.u32(), r.u32()
	}
	if a.flags&attrExtended != 0 {
		for n := r.u32(); n > 0 && !r.bad; n-- {
			_ = r.text()
			_ = r.bytes()
		}
	}
	return a
}

func getU32(p []byte) uint32 {
	return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
}

func setU32(p []byte, v uint32) {
	p[0], p[1], p[2], p[3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
}

func putU32(b []byte, v uint32) []byte {
	return append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

func putU64(b []byte, v uint64) []byte { return putU32(putU32(b, uint32(v>>32)), uint32(v)) }

func putString(b []byte, s string) []byte { return append(putU32(b, uint32(len(s))), s...) }

func putAttrs(b []byte, a *attrs) []byte {
	b = putU32(b, a.flags)
	if a.flags&attrSize != 0 {
		b = putU64(b, a.size)
	}
	if a.flags&attrOwner != 0 {
		b = putU32(putU32(b, a.uid), a.gid)
	}
	if a.flags&attrPermissions != 0 {
		b = putU32(b, a.perm)
	}
	if a.flags&attrTimes != 0 {
		b = putU32(putU32(b, a.atime), a.mtime)
	}
	return b
}
