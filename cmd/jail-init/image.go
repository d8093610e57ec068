package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"jail/internal/event"
	"jail/internal/image"
	"jail/internal/imagestore"
)

const imageUsage = `Usage: jail-init image [--images DIR] VERB [ARGUMENT...]

    import NAME FILE | DIR    make an image of an archive of a root directory (tar, also
                              compressed by gzip, xz, zstd or bzip2), of what docker save,
                              podman save or skopeo copy write, or of an OCI layout
        [--ref REFERENCE]     which image, where there are several
        [--max-size 20G] [--max-files 2M] [--max-time 1h]
    import NAME --mmdebstrap SUITE
                              make one of a release of Debian, by mmdebstrap(1)
    import NAME --busybox     make one of the host's busybox
    ls                        show the images
    use NAME ID               make another one the current one of that name
    copy NAME[/ID] DIR        make a root directory of one, for rootfs = "DIR"
    rm NAME[/ID]              remove all of that name, or one that is not the current
    prune [NAME]              remove those that are neither current nor in use

See jail-init(8).
`

// image runs a verb of images.
func (c *common) image(args []string) error {
	dir := imagestore.DefaultDir
	fs := c.flags("image")
	fs.StringVar(&dir, "images", dir, "")
	o := image.Import{MaxBytes: 20 << 30, MaxEntries: 2_000_000, MaxTime: time.Hour, Stdout: os.Stdout, Stderr: os.Stderr}
	fs.Var(quantity{&o.MaxBytes, 1024}, "max-size", "")
	fs.Var(quantity{&o.MaxEntries, 1000}, "max-files", "")
	fs.DurationVar(&o.MaxTime, "max-time", o.MaxTime, "")
	fs.StringVar(&o.Reference, "ref", "", "")
	fs.StringVar(&o.Mmdebstrap, "mmdebstrap", "", "")
	fs.BoolVar(&o.Busybox, "busybox", false, "")
	given, err := c.finish(fs, "image", args, -1)
	if err != nil {
		return err
	}
	if len(given) == 0 {
		fmt.Fprint(os.Stderr, imageUsage)
		return errReported
	}
	if given[0] == "help" {
		fmt.Print(imageUsage)
		return nil
	}
	verb, rest := given[0], given[1:]
	want, known := map[string][2]int{"import": {1, 2}, "ls": {0, 0}, "use": {2, 2}, "copy": {2, 2}, "rm": {1, 1}, "prune": {0, 1}}[verb]
	switch {
	case !known:
		return usageError("unknown verb " + strconv.Quote("image "+verb) + "; jail-init image help lists them")
	case len(rest) < want[0] || len(rest) > want[1]:
		return usageError("image " + verb + " takes other arguments; jail-init image help shows them")
	case o.MaxTime <= 0:
		return usageError("--max-time: must be more than nothing")
	case os.Geteuid() != 0:
		return errors.New("images are root's: only root can make their directories with all ids that a jail has")
	}
	store, err := image.OpenStore(dir)
	if err != nil {
		return err
	}
	switch verb {
	case "import":
		o.Name = rest[0]
		if len(rest) > 1 {
			o.Source = rest[1]
		}
		sources := 0
		for _, s := range []bool{o.Source != "", o.Mmdebstrap != "", o.Busybox} {
			if s {
				sources++
			}
		}
		if sources != 1 {
			return usageError("image import takes a file, a directory, --mmdebstrap SUITE or --busybox, one of them")
		}
		return about(o.Name, store.Import(&o))
	case "ls":
		return list(store)
	case "use":
		return store.Use(rest[0], rest[1])
	case "copy":
		id, err := store.Copy(rest[0], rest[1])
		if err != nil {
			return about(rest[0], err)
		}
		name, _, _ := strings.Cut(rest[0], "/")
		fmt.Printf("%s: a copy of %s/%s\n", rest[1], name, id)
		return nil
	case "rm":
		gone, err := store.Remove(rest[0])
		return removed(gone, err)
	}
	var only string
	if len(rest) > 0 {
		only = rest[0]
	}
	gone, err := store.Prune(only)
	return removed(gone, err)
}

// about says which image an error is about.
func about(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("image %s: %w", name, err)
}

func removed(gone []imagestore.Image, err error) error {
	for _, i := range gone {
		fmt.Printf("%s/%s: removed, %s\n", i.Name, i.ID, image.Size(i.Bytes))
	}
	return err
}

// list prints a table of the images.
func list(store *image.Store) error {
	images, err := store.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tID\tSTATE\tENTRIES\tSIZE\tFROM")
	for _, i := range images {
		var state []string
		for _, s := range []struct {
			is   bool
			name string
		}{{i.Current, "current"}, {i.InUse, "in use"}, {i.Pinned, "pinned"}} {
			if s.is {
				state = append(state, s.name)
			}
		}
		if len(state) == 0 {
			state = []string{"-"}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", i.Name, i.ID, strings.Join(state, ", "), i.Entries, image.Size(i.Bytes), event.Quote(i.Source))
	}
	return w.Flush()
}

// quantity is a flag: a number, perhaps with K, M, G or T behind it, each step times as
// much as the one before.
type quantity struct {
	value *uint64
	step  uint64
}

func (q quantity) String() string { return "" }

func (q quantity) Set(s string) error {
	digits := strings.TrimRight(s, "KMGTkmgt")
	factor := uint64(1)
	if unit := strings.ToUpper(s[len(digits):]); len(unit) == 1 {
		for range strings.Index("KMGT", unit) + 1 {
			factor *= q.step
		}
	} else if unit != "" {
		digits = ""
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > math.MaxInt64/factor {
		return errors.New("must be a number, with K, M, G or T behind it if need be")
	}
	*q.value = n * factor
	return nil
}
