package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// layer applies one tar archive. With whole, it has to have the blocks that end one: it
// may have been cut off between two members, and there is no digest to tell.
func (r *reading) layer(in io.Reader, whole bool) error {
	r.layers++
	r.tree.Layer()
	count := &sum{r: &bounded{in, r.streamLimit(), r.errSize()}, h: noHash{}}
	tr := tar.NewReader(count)
	for first := true; ; first = false {
		// What is left of a member but its padding, which is less than a block.
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return explain(err)
		}
		before := count.n
		h, err := tr.Next()
		if err == io.EOF {
			const block = 512
			if whole && count.n-before < block {
				return explain(io.ErrUnexpectedEOF)
			}
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // clean judges names
			if first && errors.Is(err, tar.ErrHeader) {
				return errors.New("is no tar archive, be it compressed by gzip, xz, zstd, bzip2 or not, and no image of docker or OCI")
			}
			return explain(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := r.member(h, tr); err != nil {
			return fmt.Errorf("%s: %w", quote(h.Name), explain(err))
		}
	}
}

// member applies one member of a layer.
func (r *reading) member(h *tar.Header, content io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	what, target, err := whiteout(name)
	if err != nil {
		return err
	}
	if what != noWhiteout {
		if r.layers == 1 {
			return errors.New("removes something (.wh.), and there is nothing yet: this is a layer of an image, not the whole")
		}
		if err := r.count(0); err != nil {
			return err
		}
		switch what {
		case whiteoutOne:
			return r.tree.Remove(target)
		case whiteoutAll:
			return r.tree.Clear(target)
		}
		return nil
	}
	e := Entry{Name: name, Mode: uint32(h.Mode & 0o7777), ModTime: h.ModTime}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.Kind, e.Size, e.Sparse = File, h.Size, sparse(h)
	case tar.TypeDir:
		e.Kind = Dir
	case tar.TypeSymlink:
		e.Kind, e.Target = Symlink, h.Linkname
		if e.Target == "" || len(e.Target) > maxPath || strings.ContainsRune(e.Target, 0) {
			return errors.New("is a link to nothing that can be a path")
		}
	case tar.TypeLink:
		e.Kind = Link
		if e.Target, err = clean(h.Linkname); err != nil {
			return fmt.Errorf("link to %s: %w", quote(h.Linkname), err)
		}
	case tar.TypeFifo:
		e.Kind = Fifo
	case tar.TypeChar, tar.TypeBlock:
		r.devices.add(h.Name)
		return nil
	default:
		r.others.add(h.Name)
		return nil
	}
	if name == "." && e.Kind != Dir {
		return errors.New("the root directory is no directory")
	}
	if err := r.count(e.Size); err != nil {
		return err
	}
	r.owner(&e, h)
	return r.tree.Make(&e, content)
}

// owner gives the entry its ids and what goes with them.
func (r *reading) owner(e *Entry, h *tar.Header) {
	within := func(id int) bool { return id >= 0 && id <= MaxID }
	ours := within(h.Uid) && within(h.Gid)
	if ours {
		e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	} else {
		r.foreign.add(h.Name)
		e.UID, e.GID = Nobody, Nobody
		e.Mode &= 0o1777
	}
	if e.Kind != File && e.Kind != Dir {
		return
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		switch {
		case !ok:
		case strings.HasPrefix(name, "user."):
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = value
		case name == "security.capability" && e.Kind == File:
			if ours {
				e.Capability = []byte(value)
			}
		default:
			r.attributes.add(h.Name)
		}
	}
}

// sparse reports whether the archive has a map of a file's holes: GNU's own format, or
// one of those that are PAX records.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// clean returns a member's name relative to the root.
func clean(name string) (string, error) {
	if name == "" || len(name) > maxPath || strings.ContainsRune(name, 0) {
		return "", errors.New("its name cannot be a path")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New("its name climbs (..); no archive of a root directory does that")
		}
	}
	if name = strings.TrimPrefix(path.Clean("/"+name), "/"); name == "" {
		return ".", nil
	}
	return name, nil
}

// removal is what a whiteout removes.
type removal uint8

const (
	noWhiteout     removal = iota
	whiteoutOne            // one thing of earlier layers
	whiteoutAll            // all that they have made in a directory
	whiteoutAnyhow         // nothing: an aid of aufs
)

// whiteout says what a name that begins with .wh. removes (layer.md, "Whiteouts").
func whiteout(name string) (what removal, target string, err error) {
	const mark = ".wh."
	dir, last := path.Split(name)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, mark) {
			return 0, "", errors.New("is in a directory whose name removes something (.wh.)")
		}
	}
	rest, ok := strings.CutPrefix(last, mark)
	switch {
	case !ok:
		return noWhiteout, "", nil
	case last == mark+mark+".opq":
		return whiteoutAll, path.Clean(dir), nil
	case strings.HasPrefix(rest, mark):
		return whiteoutAnyhow, "", nil
	case rest == "" || rest == "." || rest == "..":
		return 0, "", errors.New("removes nothing that has a name")
	}
	return whiteoutOne, path.Join(dir, rest), nil
}
