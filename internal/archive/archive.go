// Package archive reads root file systems: tar archives, and the images that docker,
// podman, skopeo and buildah write (docker-archive, oci-archive, OCI layouts). It says
// what is to be made, in order, and makes nothing itself: a Tree does.
//
// An archive is hostile. What comes out of here has clean names that do not climb, known
// kinds, ids that a jail can have, and no more entries and bytes than was said; layers are
// checked against the digests of their manifest. Where links lead is for the Tree.
//
// Sources: the OCI image specification 1.1 (layer.md, image-layout.md), pax(1), GNU tar's
// "Standard Format".
package archive

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Kind is what an Entry is. There are no devices: a jail has a /dev of its own.
type Kind uint8

const (
	File Kind = iota
	Dir
	Symlink
	Link // another name of what is there
	Fifo
)

// Entry is one thing to make.
type Entry struct {
	Name     string // relative and clean, without "..": "." is the root itself
	Kind     Kind
	Mode     uint32 // as chmod(2) takes it, at most 07777
	UID, GID uint32 // at most MaxID
	ModTime  time.Time
	// Target is where a Symlink leads, as it stands there; of a Link it is a name like
	// Name.
	Target string
	Size   int64 // of a File
	Sparse bool  // the archive says that there are holes
	// Capability is the value of security.capability, nil without; Xattrs those of
	// user.*, by their whole name.
	Capability []byte
	Xattrs     map[string]string
}

// Ids of a jail are 0 to MaxID (userns in jail.toml(5)). What belongs to another in the
// archive becomes Nobody's, and is not set-uid then.
const (
	MaxID  = 65535
	Nobody = 65534
)

// Tree is what layers are applied to. An error of its ends everything.
type Tree interface {
	// Layer begins a layer: what is made from now on is its.
	Layer()
	// Make makes e in the place of what has that name, except for a directory that is
	// one already, which keeps what is in it. Directories above are made where missing.
	// content is a File's.
	Make(e *Entry, content io.Reader) error
	// Remove removes what earlier layers have made of that name.
	Remove(name string) error
	// Clear removes what earlier layers have made in a directory.
	Clear(name string) error
}

// Options bound and choose.
type Options struct {
	MaxBytes   uint64 // what all files together hold, holes included
	MaxEntries uint64 // of all layers together
	Machine    string // whose programs run here, as runtime.GOARCH has it
	Reference  string // which image of several, "" where there is one
	// Note is told what is odd and does no harm, at the end.
	Note func(text string)
	// Progress is told from time to time how much has been made.
	Progress func(entries, bytes uint64)
}

// Limits that need no option: what is longer is no image.
const (
	maxJSON   = 4 << 20 // an index, a manifest or a configuration, in bytes
	maxLayers = 512
	maxDepth  = 4 // of indexes in indexes, and links in archives
	maxPath   = 4095
	window    = 128 << 20 // of zstd, and the dictionary of xz: zstd(1) --ultra --long=27
	// overhead is what an entry may take in an archive besides its content, on average:
	// headers, a long name, attributes, padding.
	overhead = 8 << 10
)

// Archive is what Unpack reads: an open regular file.
type Archive interface {
	io.Reader
	io.Seeker
	io.ReaderAt
}

// Unpack applies what is in an archive to t.
func Unpack(f Archive, opt Options, t Tree) error {
	r := newReading(opt, t)
	isImage, err := r.look(f)
	if err != nil {
		return err
	}
	if isImage {
		err = r.image()
	} else {
		if opt.Reference != "" {
			return errors.New("is no image but a root directory, of which there is one: --ref chooses nothing")
		}
		err = r.plain(f)
	}
	return r.end(err)
}

// UnpackLayout applies the image of an OCI layout to t. open opens a file below its
// directory.
func UnpackLayout(open func(name string) (io.ReadCloser, error), opt Options, t Tree) error {
	r := newReading(opt, t)
	r.open = open
	return r.end(r.image())
}

// reading is the state of one Unpack.
type reading struct {
	opt    Options
	tree   Tree
	open   func(name string) (io.ReadCloser, error) // a member of the image
	layers int                                      // begun

	entries, bytes uint64

	devices, others, foreign, attributes tally
}

// tally counts what is noted once.
type tally struct {
	n     int
	first string
}

func (t *tally) add(name string) {
	if t.n++; t.n == 1 {
		t.first = quote(name)
	}
}

// and returns ", and N others".
func (t *tally) and() string {
	switch t.n {
	case 1:
		return ""
	case 2:
		return ", and one more"
	}
	return ", and " + strconv.Itoa(t.n-1) + " more"
}

func newReading(opt Options, t Tree) *reading {
	if opt.Note == nil {
		opt.Note = func(string) {}
	}
	if opt.Progress == nil {
		opt.Progress = func(_, _ uint64) {}
	}
	return &reading{opt: opt, tree: t}
}

func (r *reading) end(err error) error {
	if err != nil {
		return err
	}
	if r.entries == 0 {
		return errors.New("is empty: nothing to make a root directory of")
	}
	r.opt.Progress(r.entries, r.bytes)
	for _, n := range []struct {
		t    tally
		what string
	}{
		{r.devices, "left out, since a jail has a /dev of its own"},
		{r.others, "left out: neither a file, a directory, a link nor a FIFO"},
		{r.foreign, "given to uid and gid 65534: the owner in the archive is above 65535; set-uid, set-gid and capabilities are gone"},
		{r.attributes, "extended attributes left out that are neither user.* nor a capability"},
	} {
		if n.t.n > 0 {
			r.opt.Note(n.t.first + n.t.and() + ": " + n.what)
		}
	}
	return nil
}

// plain applies an archive that is a root directory.
func (r *reading) plain(f Archive) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in, _, err := decompress(f)
	if err != nil {
		return explain(err)
	}
	defer in.Close()
	return r.layer(in, true)
}

// streamLimit is how much may come out of a decompressor for what is left to be made.
func (r *reading) streamLimit() int64 {
	const most = 1 << 62
	left, entries := r.opt.MaxBytes-r.bytes, r.opt.MaxEntries-r.entries
	if left > most || entries > most/overhead/2 {
		return most
	}
	return int64(min(left+entries*overhead+1<<20, most))
}

// errSize and errCount say which limit it was.
func (r *reading) errSize() error {
	return fmt.Errorf("holds more than the %d bytes that it may (--max-size)", r.opt.MaxBytes)
}

func (r *reading) errCount() error {
	return fmt.Errorf("has more than the %d entries that it may (--max-files)", r.opt.MaxEntries)
}

// count takes an entry of that size from what is left.
func (r *reading) count(size int64) error {
	if r.entries >= r.opt.MaxEntries {
		return r.errCount()
	}
	if size < 0 || uint64(size) > r.opt.MaxBytes-r.bytes {
		return r.errSize()
	}
	r.entries++
	r.bytes += uint64(size)
	if r.entries%64 == 0 || size > 1<<20 {
		r.opt.Progress(r.entries, r.bytes)
	}
	return nil
}

// quote makes a name of the archive's short enough for a line, and visible.
func quote(name string) string {
	const most = 160
	if len(name) > most {
		name = name[:most] + "..."
	}
	return strconv.Quote(name)
}
