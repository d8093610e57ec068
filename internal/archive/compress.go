package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// decompress tells by its first bytes how a stream is compressed, and undoes that. how is
// "" if it is not.
func decompress(in io.Reader) (out io.ReadCloser, how string, err error) {
	b := bufio.NewReaderSize(in, 64<<10)
	magic, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	var r io.Reader = b
	switch err = nil; {
	case len(magic) == 0:
		return nil, "", errors.New("is empty")
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		how = "gzip"
		r, err = gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		how = "zstd"
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err == nil {
			return z.IOReadCloser(), how, nil
		}
		return nil, "", fmt.Errorf("%s: %w", how, err)
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		how = "xz"
		if err = checkDictionary(b); err == nil {
			r, err = xz.NewReader(b)
		}
	case bytes.HasPrefix(magic, []byte("BZh")):
		how = "bzip2"
		r = bzip2.NewReader(b)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", how, err)
	}
	return io.NopCloser(r), how, nil
}

// checkDictionary refuses an xz stream whose first block wants a larger dictionary than
// window, which the library would allocate; that of later blocks the process's own limit
// on memory bounds. The xz file format, 1.2: a stream header of 12 bytes, then the block's:
// size, flags, sizes if flagged, and for each filter its id, the length of its properties
// and these.
func checkDictionary(b *bufio.Reader) error {
	const streamHeader = 12
	head, err := b.Peek(streamHeader + 1)
	if err != nil || head[streamHeader] == 0 {
		return nil // no block: the reader will say what is wrong
	}
	size := (int(head[streamHeader]) + 1) * 4
	if head, err = b.Peek(streamHeader + size); err != nil {
		return nil
	}
	block := head[streamHeader:]
	flags, rest := block[1], block[2:]
	number := func() uint64 {
		var v uint64
		for shift := 0; len(rest) > 0 && shift < 63; shift += 7 {
			c := rest[0]
			rest = rest[1:]
			v |= uint64(c&0x7f) << shift
			if c&0x80 == 0 {
				break
			}
		}
		return v
	}
	for _, flag := range []byte{0x40, 0x80} {
		if flags&flag != 0 {
			number()
		}
	}
	for range flags&3 + 1 {
		const lzma2 = 0x21
		id, props := number(), number()
		if props > uint64(len(rest)) {
			return nil
		}
		if id == lzma2 && props == 1 {
			if dict, err := lzma.DecodeDictCap(rest[0]); err == nil && dict > window {
				return fmt.Errorf("wants a dictionary of %d MiB, and may have %d", dict>>20, window>>20)
			}
		}
		rest = rest[props:]
	}
	return nil
}

// bounded reads no more than left, and fails where there is more.
type bounded struct {
	r    io.Reader
	left int64
	err  error // what to fail with
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.err
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, b.err
	}
	return n, err
}

// explain says in words what reading an archive has come to.
func explain(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("ends in the middle: it has been cut off; fetch it, or make it, once more")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("zstd: wants a window of more than %d MiB; compress it with --long=27 or less", window>>20)
	}
	return err
}
