package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"jail/internal/count"
)

// descriptor says where something of an image is (descriptor.md).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

// document is an index or a manifest: what tells them apart is what they list.
type document struct {
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// configuration is what is read of an image's.
type configuration struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	RootFS       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// image applies the layers of the image whose members open opens.
func (r *reading) image() error {
	var index document
	switch err := r.json("index.json", nil, &index); {
	case err == nil:
		return r.layout(index.Manifests)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	var list []dockerImage
	err := r.json("manifest.json", nil, &list)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("has neither an index.json nor a manifest.json: no image; of a root directory, make an archive first (tar -C DIR -cf FILE .)")
	}
	if err != nil {
		return err
	}
	return r.docker(list)
}

// layout applies the one image of an index that fits.
func (r *reading) layout(list []descriptor) error {
	for depth := range maxDepth {
		one, err := r.choose(list, depth == 0)
		if err != nil {
			return err
		}
		name, err := blob(one.Digest)
		if err != nil {
			return err
		}
		var doc document
		if err := r.json(name, &one, &doc); err != nil {
			return err
		}
		if len(doc.Layers) == 0 {
			list = doc.Manifests
			continue
		}
		return r.manifest(&doc)
	}
	return errors.New("has indexes in indexes and no image in any")
}

// choose returns the one of an index's images that is asked for and runs here.
func (r *reading) choose(list []descriptor, named bool) (one descriptor, err error) {
	images := slices.DeleteFunc(slices.Clone(list), func(d descriptor) bool {
		// What buildx says about an image is in the index like another image.
		return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
	})
	names := func(list []descriptor) (names []string) {
		for i := range list {
			names = append(names, list[i].names()...)
		}
		return names
	}
	if named && r.opt.Reference != "" {
		all := names(images)
		images = slices.DeleteFunc(images, func(d descriptor) bool { return !slices.Contains(d.names(), r.opt.Reference) })
		if len(images) == 0 {
			return one, noSuchImage(r.opt.Reference, all)
		}
	}
	fit := slices.DeleteFunc(slices.Clone(images), func(d descriptor) bool {
		return d.Platform != nil && (d.Platform.OS != "linux" || !r.runs(d.Platform.Architecture))
	})
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		var machines []string
		for _, d := range images {
			if d.Platform != nil {
				machines = append(machines, d.Platform.OS+"/"+d.Platform.Architecture)
			}
		}
		if len(machines) > 0 {
			return one, r.otherMachine(enumerate(machines))
		}
		return one, errors.New("has no image in it")
	}
	exact := slices.DeleteFunc(slices.Clone(fit), func(d descriptor) bool {
		return d.Platform == nil || d.Platform.Architecture != r.opt.Machine
	})
	if len(exact) == 1 {
		return exact[0], nil
	}
	return one, severalImages(len(fit), names(fit))
}

// names are those that an index gives to an image.
func (d *descriptor) names() (names []string) {
	for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
		if name := d.Annotations[key]; name != "" {
			names = append(names, name)
		}
	}
	return names
}

func noSuchImage(name string, all []string) error {
	return fmt.Errorf("has no image that is called %s, but %s", quote(name), enumerate(all))
}

func severalImages(n int, names []string) error {
	return fmt.Errorf("has %d images, say which by --ref: %s", n, enumerate(names))
}

// enumerate lists some names of the archive's.
func enumerate(names []string) string {
	const most = 6
	if len(names) == 0 {
		return "none with a name"
	}
	var quoted []string
	for _, n := range names[:min(len(names), most)] {
		quoted = append(quoted, quote(n))
	}
	if len(names) > most {
		quoted = append(quoted, "...")
	}
	return strings.Join(quoted, ", ")
}

// runs reports whether programs of that architecture run here.
func (r *reading) runs(machine string) bool {
	return machine == r.opt.Machine || machine == "386" && r.opt.Machine == "amd64"
}

func (r *reading) otherMachine(machines string) error {
	return fmt.Errorf("is for %s, and this machine is linux/%s", machines, r.opt.Machine)
}

// manifest applies an image's layers, each of which must be what the manifest says.
func (r *reading) manifest(m *document) error {
	name, err := blob(m.Config.Digest)
	if err != nil {
		return err
	}
	var config configuration
	if err := r.json(name, &m.Config, &config); err != nil {
		return err
	}
	if err := r.check(&config, len(m.Layers)); err != nil {
		return err
	}
	for i, l := range m.Layers {
		name, err := blob(l.Digest)
		if err == nil && !strings.Contains(l.MediaType, "tar") {
			err = fmt.Errorf("is a %s, not a tar archive", quote(l.MediaType))
		}
		if err == nil {
			err = r.checked(name, &l, config.RootFS.DiffIDs[i])
		}
		if err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// check judges whether an image is one that can run here.
func (r *reading) check(config *configuration, layers int) error {
	if config.OS != "linux" || !r.runs(config.Architecture) {
		return r.otherMachine(quote(config.OS + "/" + config.Architecture))
	}
	if layers > maxLayers {
		return fmt.Errorf("has %d layers; more than %d are no image", layers, maxLayers)
	}
	if n := len(config.RootFS.DiffIDs); n != layers {
		return fmt.Errorf("has %s, and its configuration knows of %d", count.Of(layers, "layer", "layers"), n)
	}
	return nil
}

// checked applies the layer in a member. blob is what the manifest says of that, nil if
// nothing; diffID is the digest of the tar archive in it.
func (r *reading) checked(member string, blob *descriptor, diffID string) error {
	if _, err := hexDigest(diffID); err != nil {
		return err
	}
	f, err := r.open(member)
	if err != nil {
		return missing(member, err)
	}
	defer f.Close()
	whole := newSum(f)
	if blob != nil {
		whole.r = &bounded{f, blob.Size, fmt.Errorf("%s: is longer than the manifest says", member)}
	}
	plain, _, err := decompress(whole)
	if err != nil {
		return explain(err)
	}
	defer plain.Close()
	inner := newSum(&bounded{plain, r.streamLimit(), r.errSize()})
	if err := r.layer(inner, false); err != nil {
		return err
	}
	// tar stops at its last block, and so may a decompressor.
	for _, s := range []*sum{inner, whole} {
		if _, err := io.Copy(io.Discard, s); err != nil {
			return explain(err)
		}
	}
	if blob != nil {
		if err := whole.is(blob); err != nil {
			return err
		}
	}
	if got := inner.digest(); got != diffID {
		return fmt.Errorf("is not what the image's configuration says: %s, not %s", got, diffID)
	}
	return nil
}

// sum is a reader that knows the digest and the length of what has been read.
type sum struct {
	r io.Reader
	h hash
	n int64
}

type hash interface {
	io.Writer
	Sum([]byte) []byte
}

// noHash is for those who want the length only.
type noHash struct{}

func (noHash) Write(p []byte) (int, error) { return len(p), nil }
func (noHash) Sum([]byte) []byte           { return nil }

func newSum(r io.Reader) *sum { return &sum{r: r, h: sha256.New()} }

func (s *sum) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	_, _ = s.h.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *sum) digest() string { return "sha256:" + hex.EncodeToString(s.h.Sum(nil)) }

// unknownSize is that of a descriptor which says only the digest.
const unknownSize = -1

// is compares what was read with what is said of it.
func (s *sum) is(d *descriptor) error {
	if got := s.digest(); got != d.Digest || s.n != d.Size && d.Size != unknownSize {
		return fmt.Errorf("is not what the manifest says: %s, %d bytes, not %s, %d", got, s.n, d.Digest, d.Size)
	}
	return nil
}

// blob is the member that has a digest.
func blob(digest string) (string, error) {
	h, err := hexDigest(digest)
	return "blobs/sha256/" + h, err
}

func hexDigest(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(h); !ok || err != nil || len(raw) != sha256.Size || h != strings.ToLower(h) {
		return "", fmt.Errorf("%s is no sha256 digest", quote(digest))
	}
	return h, nil
}

// json reads a document, which has to be what d says, if that is not nil.
func (r *reading) json(member string, d *descriptor, v any) error {
	f, err := r.open(member)
	if err != nil {
		return missing(member, err)
	}
	defer f.Close()
	s := newSum(&bounded{f, maxJSON, fmt.Errorf("is longer than %d MiB", maxJSON>>20)})
	b, err := io.ReadAll(s)
	if err == nil && d != nil {
		err = s.is(d)
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", quote(member), explain(err))
	}
	return nil
}

func missing(member string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: %w", quote(member), fs.ErrNotExist)
	}
	return fmt.Errorf("%s: %w", quote(member), err)
}

// dockerImage is an element of the manifest.json that "docker save" writes.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// docker applies the one image of a docker-archive.
func (r *reading) docker(list []dockerImage) error {
	var names []string
	for _, image := range list {
		names = append(names, image.RepoTags...)
	}
	if r.opt.Reference != "" {
		list = slices.DeleteFunc(list, func(d dockerImage) bool { return !slices.Contains(d.RepoTags, r.opt.Reference) })
		if len(list) == 0 {
			return noSuchImage(r.opt.Reference, names)
		}
	}
	switch len(list) {
	case 0:
		return errors.New("has no image in it")
	case 1:
	default:
		return severalImages(len(list), names)
	}
	image := list[0]
	var config configuration
	var known *descriptor
	// Where a configuration is called by its digest, it has to be what it is called.
	if h, err := hexDigest("sha256:" + strings.TrimSuffix(path.Base(image.Config), ".json")); err == nil {
		known = &descriptor{Digest: "sha256:" + h, Size: unknownSize}
	}
	if err := r.json(image.Config, known, &config); err != nil {
		return err
	}
	if err := r.check(&config, len(image.Layers)); err != nil {
		return err
	}
	for i, l := range image.Layers {
		if err := r.checked(l, nil, config.RootFS.DiffIDs[i]); err != nil {
			return fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return nil
}

// member is where something is in an archive that is not compressed.
type member struct {
	offset, size int64
	link         string
}

// imageMember matches the names that the archives of docker and OCI have at their top:
// an archive with any other is a root directory.
var imageMember = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(oci-layout|index\.json|manifest\.json|repositories|blobs|blobs/sha(256|512)(/[0-9a-f]+)?|[0-9a-f]{64}(\.json|\.tar|/layer\.tar|/json|/VERSION)?)$`)
})

// look tells an image from a root directory, by the names in it, and prepares to open the
// members of an image. Those of a compressed archive are looked for anew each time,
// without a file for what comes out.
func (r *reading) look(f Archive) (isImage bool, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	in, how, err := decompress(f)
	if err != nil {
		return false, explain(err)
	}
	defer in.Close()
	members := map[string]member{}
	// Not compressed, the file itself is read, whose position is then that of a member, and
	// what is between is not read at all.
	var from io.Reader = &bounded{in, r.streamLimit(), r.errSize()}
	if how == "" {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return false, err
		}
		from = f
	}
	tr := tar.NewReader(from)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			if len(members) == 0 {
				return false, nil // layer says what is wrong
			}
			return false, explain(err)
		}
		name := path.Clean(h.Name)
		if name == "." || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if !imageMember().MatchString(name) {
			return false, nil
		}
		if _, twice := members[name]; twice {
			return false, fmt.Errorf("%s is in it twice", quote(name))
		}
		if uint64(len(members)) >= r.opt.MaxEntries {
			return false, r.errCount()
		}
		m := member{offset: -1, size: h.Size}
		switch h.Typeflag {
		case tar.TypeSymlink:
			m.link = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			m.link = path.Clean(h.Linkname)
		case tar.TypeReg:
			if sparse(h) {
				return false, fmt.Errorf("%s: has holes, which no image's file has", quote(name))
			}
			if how == "" {
				if m.offset, err = f.Seek(0, io.SeekCurrent); err != nil {
					return false, err
				}
			}
		default:
			continue
		}
		members[name] = m
	}
	if len(members) == 0 {
		return false, nil
	}
	r.open = func(name string) (io.ReadCloser, error) {
		name = path.Clean(name)
		m, ok := members[name]
		for range maxDepth {
			if ok && m.link != "" {
				name = m.link
				m, ok = members[name]
			}
		}
		switch {
		case !ok:
			return nil, fs.ErrNotExist
		case m.link != "":
			return nil, errors.New("is a link to a link to a link")
		case m.offset >= 0:
			return io.NopCloser(io.NewSectionReader(f, m.offset, m.size)), nil
		}
		return r.scan(f, name)
	}
	return true, nil
}

// scan opens a member of a compressed archive. Only one can be open at a time.
func (r *reading) scan(f Archive, name string) (io.ReadCloser, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	in, _, err := decompress(f)
	if err != nil {
		return nil, explain(err)
	}
	tr := tar.NewReader(&bounded{in, r.streamLimit(), r.errSize()})
	for {
		h, err := tr.Next()
		if err == nil || errors.Is(err, tar.ErrInsecurePath) {
			if path.Clean(h.Name) != name || h.Typeflag != tar.TypeReg {
				continue
			}
			return struct {
				io.Reader
				io.Closer
			}{tr, in}, nil
		}
		in.Close()
		if err == io.EOF {
			err = fs.ErrNotExist // the file is being changed
		}
		return nil, explain(err)
	}
}
