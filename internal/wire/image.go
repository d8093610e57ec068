package wire

// Unpack is the one order that jail-import gets. With the packet come two descriptors: a
// detached mount of the directory to unpack into, and the source, a file or a detached
// mount of a directory.
type Unpack struct {
	MaxBytes   uint64 // what all files together may hold, holes included
	MaxEntries uint64 // files, directories, links, of all layers together
	Machine    string // whose programs run here, as Go and OCI name it: amd64
	Reference  string // which image of several; "" where there is one
	Dir        bool   // the source is a directory
}

// MaxReference bounds the name of an image in an archive, in bytes. Those of registries
// have at most 255 before the tag, which has at most 128.
const MaxReference = 512

// MaxMachine bounds the name of an architecture.
const MaxMachine = 32

// AppendUnpack encodes u.
func AppendUnpack(dst []byte, u *Unpack) ([]byte, error) {
	if len(u.Reference) > MaxReference || len(u.Machine) > MaxMachine {
		return nil, ErrTooLong
	}
	dst = putU64(putU64(header(dst, TypeUnpack, 0), u.MaxBytes), u.MaxEntries)
	return putBool(putString(putString(dst, u.Machine), u.Reference), u.Dir), nil
}

// DecodeUnpack decodes the body of a TypeUnpack packet.
func DecodeUnpack(body []byte) (Unpack, error) {
	in := reader{b: body}
	u := Unpack{MaxBytes: in.u64(), MaxEntries: in.u64(), Machine: in.str(MaxMachine), Reference: in.str(MaxReference), Dir: in.boolean()}
	return u, in.done()
}

// Progress is how far jail-import is: what it has made so far.
type Progress struct{ Entries, Bytes uint64 }

// AppendProgress encodes p as how far it is, or, when that is all, as the end of it: t is
// TypeProgress or TypeUnpacked.
func AppendProgress(dst []byte, t Type, p Progress) []byte {
	return putU64(putU64(header(dst, t, 0), p.Entries), p.Bytes)
}

// DecodeProgress decodes the body of a TypeProgress or TypeUnpacked packet.
func DecodeProgress(body []byte) (Progress, error) {
	in := reader{b: body}
	p := Progress{Entries: in.u64(), Bytes: in.u64()}
	return p, in.done()
}
