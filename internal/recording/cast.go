// Package recording keeps what terminals of sessions show, and shows it again: the format, the
// store, the process that records, and the player.
//
// A recording is an asciicast of version 2: a line of JSON that says what it is of, and a line for each
// event (docs.asciinema.org/manual/asciicast/v2). What was printed that is no UTF-8 cannot be told
// in JSON; each such byte becomes U+FFFD.
package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// Header is the first line of a recording. What is behind Env is ours; other players pass over it.
type Header struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`  // columns
	Height    int               `json:"height"` // rows
	Timestamp int64             `json:"timestamp"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env,omitempty"`

	Jail      string `json:"jail"`
	Login     string `json:"login"`
	HostUID   uint32 `json:"host_uid"`
	PID       int    `json:"pid"`        // of jail-enter, on the host
	PIDInside uint32 `json:"pid_inside"` // as the jail's PID 1 says
	Input     bool   `json:"input"`      // what was typed is in it
}

// header returns the line of h.
func header(h *Header) ([]byte, error) {
	h.Version = 2
	line, err := json.Marshal(h)
	return append(line, '\n'), err
}

// Kind is what an event is.
type Kind byte

// The kinds of asciicast.
const (
	Output Kind = 'o'
	Input  Kind = 'i'
	Resize Kind = 'r' // Data is COLUMNSxROWS
	Marker Kind = 'm' // Data is a word of ours on the recording itself
)

// Event is one line of a recording.
type Event struct {
	At   time.Duration // since the beginning
	Kind Kind
	Data string
}

// encoder makes events of bytes. A character may come in two parts.
type encoder struct {
	pending [2][]byte // of output and input: the beginning of a character
	buf     []byte
}

// event returns the line of an event, "" where all is pending. It is valid until the next call.
func (e *encoder) event(at time.Duration, k Kind, data []byte) []byte {
	which := 0
	switch k {
	case Input:
		which = 1
		fallthrough
	case Output:
		if p := e.pending[which]; len(p) > 0 {
			data = append(p, data...)
			e.pending[which] = nil
		}
		if n := partial(data); n > 0 {
			e.pending[which] = append([]byte(nil), data[len(data)-n:]...)
			data = data[:len(data)-n]
		}
		if len(data) == 0 {
			return nil
		}
	}
	us := at.Microseconds()
	b := strconv.AppendInt(append(e.buf[:0], '['), us/1e6, 10)
	b = append(b, '.')
	for unit := int64(1e5); unit > 0; unit /= 10 {
		b = append(b, byte('0'+us/unit%10))
	}
	b = append(b, ", \""...)
	b = append(b, byte(k))
	b = append(b, "\", "...)
	b = append(appendJSON(b, data), "]\n"...)
	e.buf = b
	return b
}

// partial is how many bytes at the end of b begin a character that is not all there.
func partial(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// appendJSON appends text as a string of JSON.
func appendJSON(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			i++
			continue
		}
		n := 1
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[i:])
			if n = size; r != utf8.RuneError || size != 1 {
				i += n
				continue
			}
		}
		dst = append(dst, text[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			dst = append(dst, "\ufffd"...)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i += n
		start = i
	}
	return append(append(dst, text[start:]...), '"')
}

// maxLine bounds a line that is read, in bytes: MaxRecorded bytes, each written as six.
const maxLine = 256 << 10

// Reader reads a recording. The bytes in it are a tenant's, and the file may have been cut off or
// changed.
type Reader struct {
	Header Header
	in     *bufio.Reader
	line   int
	last   time.Duration
}

// ErrDamaged is why a line of a recording is passed over. The lines behind it can be read.
var ErrDamaged = errors.New("damaged")

// NewReader reads the first line.
func NewReader(r io.Reader) (*Reader, error) {
	c := &Reader{in: bufio.NewReaderSize(r, 64<<10)}
	line, err := c.next()
	if err == io.EOF {
		return nil, fmt.Errorf("the recording is empty: %w", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(line, &c.Header) != nil || c.Header.Version != 2 {
		return nil, fmt.Errorf("line 1 is not that of an asciicast of version 2: %w", ErrDamaged)
	}
	return c, nil
}

// next reads a line, without its end. A last line that has none is not there yet: io.EOF.
func (c *Reader) next() ([]byte, error) {
	c.line++
	var whole []byte
	for {
		part, err := c.in.ReadSlice('\n')
		if len(whole)+len(part) > maxLine {
			for err == bufio.ErrBufferFull {
				_, err = c.in.ReadSlice('\n')
			}
			if err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("line %d is too long: %w", c.line, ErrDamaged)
		}
		switch err {
		case nil:
			if whole == nil {
				return part[:len(part)-1], nil
			}
			return append(whole, part[:len(part)-1]...), nil
		case bufio.ErrBufferFull:
			whole = append(whole, part...)
		default:
			return nil, err
		}
	}
}

// Next returns the next event, io.EOF at the end, and an error that is ErrDamaged for a line that is
// none. Times only go forward.
func (c *Reader) Next() (Event, error) {
	for {
		line, err := c.next()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			continue
		}
		var parts [3]json.RawMessage
		var at float64
		var kind, data string
		list := parts[:]
		if json.Unmarshal(line, &list) != nil || len(list) != 3 || json.Unmarshal(list[0], &at) != nil ||
			json.Unmarshal(list[1], &kind) != nil || json.Unmarshal(list[2], &data) != nil || len(kind) != 1 || !(at >= 0 && at < 1e9) {
			return Event{}, fmt.Errorf("line %d is no event: %w", c.line, ErrDamaged)
		}
		c.last = max(c.last, time.Duration(at*float64(time.Second)))
		return Event{At: c.last, Kind: Kind(kind[0]), Data: data}, nil
	}
}
