// Package inforce is the registry in force, compiled: what "jail-init serve" and
// "jail-init run" have read, judged and gone by, in a file of their runtime directory.
// jail-keys and the verbs look a login or a jail up there, so that a key lookup never
// comes from another registry than the landing, and takes as long with ten thousand
// jails as with ten.
//
// The file is a header, four sorted indexes of fixed-size entries, and records. A
// lookup reads the header, bisects one index, and reads one or two records. Nobody
// changes a file: a new one takes its place by rename(2).
//
// It stays when its writer ends or crashes, as the sockets do that it describes; a
// reboot removes it with the directory.
package inforce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"jail/config"
	"jail/internal/jail"
)

const (
	magic      = "jailreg\x01"
	headerSize = 64
	entrySize  = 48
	keySize    = jail.MaxNameLen
	// maxRecord bounds what a reader takes into memory for one record. A jail of ten
	// thousand logins needs less than a MiB.
	maxRecord = 64 << 20
)

// ErrNone is what Open returns where nothing is in force that this build knows how to
// read, and the registry itself has to be asked: there is no file, it is of another
// build, or of another registry.
var ErrNone = errors.New("no registry in force")

// The indexes, in their order in the file.
const (
	byJail  = iota // name → jailRecord, or a fault of the jail
	byLogin        // name → loginRecord, or a fault of the login
	byUID          // host uid, big-endian → loginRecord
	faults         // nothing → config.Fault, every one
	indexes
)

// What an index entry leads to.
const (
	inForce = iota
	faulty
)

// jailRecord is a jail. The records of its logins lie together, from Logins on.
type jailRecord struct {
	Spec   jail.Spec // without Logins
	File   string    // of the registry
	Block  config.Block
	Logins uint64 // offset
	Bytes  uint64
}

type loginRecord struct {
	Login jail.Login
	Jail  string
}

// summary is what is there once.
type summary struct {
	Path     string // of the registry's main file
	Accounts []config.Account
	Reserved []jail.Ports
}

// shape is what readers compare.
var shape = sync.OnceValue(func() uint64 { return shapeOf(jailRecord{}, loginRecord{}, summary{}, config.Fault{}) })

type entry struct {
	key    [keySize]byte
	off    uint64
	length uint32
	kind   uint32
}

func nameKey(name string) (key [keySize]byte) {
	copy(key[:], name)
	return key
}

func uidKey(uid jail.HostUID) (key [keySize]byte) {
	binary.BigEndian.PutUint32(key[:], uint32(uid))
	return key
}

// compile returns the file for a registry whose main file is path.
func compile(path string, reg *config.Registry) []byte {
	var index [indexes][]entry
	var records []byte
	add := func(v any) (off uint64, length uint32) {
		off = uint64(len(records))
		records = appendRecord(records, v)
		return off, uint32(uint64(len(records)) - off)
	}
	sumOff, sumLen := add(summary{path, reg.Accounts, reg.Reserved})
	for i := range reg.Jails {
		r := jailRecord{Spec: reg.Jails[i], File: reg.Files[reg.Jails[i].Name], Block: reg.Blocks[reg.Jails[i].Name], Logins: uint64(len(records))}
		r.Spec.Logins = nil
		for _, l := range reg.Jails[i].Logins {
			off, length := add(loginRecord{l, r.Spec.Name})
			index[byLogin] = append(index[byLogin], entry{nameKey(l.Name), off, length, inForce})
			index[byUID] = append(index[byUID], entry{uidKey(l.HostUID), off, length, inForce})
		}
		r.Bytes = uint64(len(records)) - r.Logins
		off, length := add(r)
		index[byJail] = append(index[byJail], entry{nameKey(r.Spec.Name), off, length, inForce})
	}
	for i := range reg.Faults {
		f := &reg.Faults[i]
		off, length := add(*f)
		index[faults] = append(index[faults], entry{off: off, length: length, kind: faulty})
		if f.Jail != "" {
			index[byJail] = append(index[byJail], entry{nameKey(f.Jail), off, length, faulty})
		}
		for _, l := range f.Logins {
			index[byLogin] = append(index[byLogin], entry{nameKey(l.Name), off, length, faulty})
			if l.HostUID != 0 {
				index[byUID] = append(index[byUID], entry{uidKey(l.HostUID), off, length, faulty})
			}
		}
	}
	first := uint64(headerSize)
	for _, list := range index {
		first += uint64(len(list)) * entrySize
	}
	le := binary.LittleEndian
	out := make([]byte, 0, first+uint64(len(records)))
	out = append(out, magic...)
	out = le.AppendUint64(out, shape())
	out = le.AppendUint64(out, first+uint64(len(records)))
	out = le.AppendUint64(out, first+sumOff)
	out = le.AppendUint32(out, sumLen)
	for i := range index {
		out = le.AppendUint32(out, uint32(len(index[i])))
	}
	out = append(out, make([]byte, headerSize-len(out))...)
	for _, list := range index {
		slices.SortStableFunc(list, func(a, b entry) int { return bytes.Compare(a.key[:], b.key[:]) })
		for _, e := range list {
			out = append(out, e.key[:]...)
			out = le.AppendUint64(out, first+e.off)
			out = le.AppendUint32(out, e.length)
			out = le.AppendUint32(out, e.kind)
		}
	}
	// Offsets inside records count from the first record.
	return append(out, records...)
}

// File is a registry in force, open for lookups.
type File struct {
	r       io.ReaderAt
	close   func() error
	size    uint64
	records uint64 // where they begin
	start   [indexes]uint64
	count   [indexes]uint32
	sum     summary
}

// Close closes the file.
func (f *File) Close() error { return f.close() }

var errFile = errors.New("malformed file")

// newFile checks what is said once about a file of that size.
func newFile(r io.ReaderAt, size int64, closer func() error) (*File, error) {
	f := &File{r: r, close: closer, size: uint64(size)}
	var h [headerSize]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		if err == io.EOF {
			return nil, errFile
		}
		return nil, err
	}
	le := binary.LittleEndian
	if string(h[:len(magic)]) != magic || le.Uint64(h[8:]) != shape() {
		return nil, ErrNone
	}
	at := uint64(headerSize)
	for i := range f.count {
		f.start[i], f.count[i] = at, le.Uint32(h[36+4*i:])
		at += uint64(f.count[i]) * entrySize
	}
	f.records = at
	if le.Uint64(h[16:]) != f.size || at > f.size {
		return nil, errFile
	}
	return f, f.record(le.Uint64(h[24:]), le.Uint32(h[32:]), &f.sum)
}

func (f *File) record(off uint64, length uint32, v any) error {
	b, err := f.read(off, uint64(length))
	if err != nil {
		return err
	}
	return decodeRecord(b, v)
}

func (f *File) read(off, length uint64) ([]byte, error) {
	if off < f.records || off > f.size || length > f.size-off || length > maxRecord {
		return nil, errFile
	}
	b := make([]byte, length)
	_, err := f.r.ReadAt(b, int64(off))
	return b, err
}

func (f *File) entry(index int, n uint32) (entry, error) {
	var b [entrySize]byte
	if _, err := f.r.ReadAt(b[:], int64(f.start[index]+uint64(n)*entrySize)); err != nil {
		return entry{}, err
	}
	le := binary.LittleEndian
	return entry{[keySize]byte(b[:keySize]), le.Uint64(b[keySize:]), le.Uint32(b[keySize+8:]), le.Uint32(b[keySize+12:])}, nil
}

// find returns the entries of a key.
func (f *File) find(index int, key [keySize]byte) ([]entry, error) {
	lo, hi := uint32(0), f.count[index]
	for lo < hi {
		mid := lo + (hi-lo)/2
		e, err := f.entry(index, mid)
		if err != nil {
			return nil, err
		}
		if bytes.Compare(e.key[:], key[:]) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	var found []entry
	for ; lo < f.count[index] && len(found) < 64; lo++ {
		e, err := f.entry(index, lo)
		if err != nil {
			return nil, err
		}
		if e.key != key {
			break
		}
		found = append(found, e)
	}
	return found, nil
}

// Login returns the jail that a login lands in, with that login alone in it. All are
// nil for a login that is none of the registry's. Errors say why one is out of service.
func (f *File) Login(name string) (*jail.Spec, *jail.Login, config.Errors, error) {
	if !jail.ValidName(name) {
		return nil, nil, nil, nil
	}
	return f.login(byLogin, nameKey(name), func(l *jail.Login) bool { return l.Name == name })
}

// HostUID is Login for the account with that uid.
func (f *File) HostUID(uid jail.HostUID) (*jail.Spec, *jail.Login, config.Errors, error) {
	return f.login(byUID, uidKey(uid), func(l *jail.Login) bool { return l.HostUID == uid })
}

func (f *File) login(index int, key [keySize]byte, match func(*jail.Login) bool) (*jail.Spec, *jail.Login, config.Errors, error) {
	found, err := f.find(index, key)
	if err != nil {
		return nil, nil, nil, err
	}
	reasons, err := f.reasons(found)
	if err != nil || len(reasons) > 0 || len(found) == 0 {
		return nil, nil, reasons, err
	}
	var l loginRecord
	if err := f.record(found[0].off, found[0].length, &l); err != nil {
		return nil, nil, nil, err
	}
	spec, _, err := f.spec(l.Jail)
	if err != nil {
		return nil, nil, nil, err
	}
	if spec == nil || len(found) > 1 || !match(&l.Login) {
		return nil, nil, nil, errFile
	}
	spec.Spec.Logins = []jail.Login{l.Login}
	return &spec.Spec, &spec.Spec.Logins[0], nil, nil
}

// reasons returns the faults among entries.
func (f *File) reasons(found []entry) (config.Errors, error) {
	var all config.Errors
	for _, e := range found {
		if e.kind == inForce {
			continue
		}
		var fault config.Fault
		if err := f.record(e.off, e.length, &fault); err != nil {
			return nil, err
		}
		if len(fault.Errors) == 0 {
			return nil, errFile
		}
		all = append(all, fault.Errors...)
	}
	return all, nil
}

// spec returns a jail in force without its logins, nil if it is not, and the faults
// of that name.
func (f *File) spec(name string) (*jailRecord, config.Errors, error) {
	found, err := f.find(byJail, nameKey(name))
	if err != nil {
		return nil, nil, err
	}
	reasons, err := f.reasons(found)
	if err != nil {
		return nil, nil, err
	}
	var r *jailRecord
	for _, e := range found {
		if e.kind != inForce {
			continue
		}
		if r != nil {
			return nil, nil, errFile
		}
		r = &jailRecord{}
		if err := f.record(e.off, e.length, r); err != nil {
			return nil, nil, err
		}
		if r.Spec.Name != name || len(r.Spec.Logins) > 0 {
			return nil, nil, errFile
		}
	}
	return r, reasons, nil
}

// Jail returns a jail, nil if it is not in force. Errors say why it, or a login of it,
// is out of service.
func (f *File) Jail(name string) (*jail.Spec, config.Errors, error) {
	if !jail.ValidName(name) {
		return nil, nil, nil
	}
	r, reasons, err := f.spec(name)
	if err != nil || r == nil {
		return nil, reasons, err
	}
	return &r.Spec, reasons, f.logins(r)
}

// logins reads the logins of a jail into its Spec.
func (f *File) logins(r *jailRecord) error {
	b, err := f.read(f.records+r.Logins, r.Bytes)
	if err != nil {
		return err
	}
	for len(b) > 0 {
		var l loginRecord
		if b, err = decodeNext(b, &l); err != nil {
			return err
		}
		if l.Jail != r.Spec.Name {
			return errFile
		}
		r.Spec.Logins = append(r.Spec.Logins, l.Login)
	}
	if len(r.Spec.Logins) == 0 {
		return errFile
	}
	return nil
}

// Names returns the names of the jails, or of the logins, that begin with prefix, sorted, those
// out of service too. It reads the index alone.
func (f *File) Names(logins bool, prefix string) ([]string, error) {
	index := byJail
	if logins {
		index = byLogin
	}
	b := make([]byte, uint64(f.count[index])*entrySize)
	if _, err := f.r.ReadAt(b, int64(f.start[index])); err != nil {
		return nil, err
	}
	var names []string
	for ; len(b) > 0; b = b[entrySize:] {
		name := string(bytes.TrimRight(b[:keySize], "\x00"))
		if strings.HasPrefix(name, prefix) && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Registry returns all of it, without the warnings.
func (f *File) Registry() (*config.Registry, error) {
	all, err := io.ReadAll(io.NewSectionReader(f.r, 0, int64(f.size)))
	if err != nil {
		return nil, err
	}
	whole := *f
	whole.r = bytes.NewReader(all)
	reg := &config.Registry{Files: map[string]string{}, Blocks: map[string]config.Block{}, Accounts: f.sum.Accounts, Reserved: f.sum.Reserved}
	for n := range f.count[byJail] {
		e, err := whole.entry(byJail, n)
		if err != nil {
			return nil, err
		}
		if e.kind != inForce {
			continue
		}
		var r jailRecord
		if err := whole.record(e.off, e.length, &r); err != nil {
			return nil, err
		}
		if err := whole.logins(&r); err != nil {
			return nil, err
		}
		reg.Jails = append(reg.Jails, r.Spec)
		reg.Files[r.Spec.Name] = r.File
		reg.Blocks[r.Spec.Name] = r.Block
	}
	for n := range f.count[faults] {
		e, err := whole.entry(faults, n)
		if err != nil {
			return nil, err
		}
		var fault config.Fault
		if err := whole.record(e.off, e.length, &fault); err != nil {
			return nil, err
		}
		reg.Faults = append(reg.Faults, fault)
	}
	return reg, nil
}

func wrap(path string, err error) error {
	if err == nil || err == ErrNone {
		return err
	}
	return fmt.Errorf("registry in force: %s: %w", path, err)
}
