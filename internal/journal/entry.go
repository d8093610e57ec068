// Package journal writes to systemd's journal, and to the log of a supervisor, without ever
// waiting for either.
//
// An entry has fields. It is one datagram to the journal's socket, in the native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): a value that may have a line feed in it goes
// with its length before it, so that no text of a tenant's can begin a field of its own.
package journal

import (
	"encoding/binary"
	"strings"
)

// Field is one field of an entry. Name is one of ours: of A to Z, 0 to 9 and _, and not
// beginning with _, which the journal keeps for what it knows by itself.
type Field struct{ Name, Value string }

// appendEntry adds an entry in the journal's protocol.
func appendEntry(dst []byte, fields []Field) []byte {
	for i := range fields {
		f := &fields[i]
		dst = append(dst, f.Name...)
		if strings.Contains(f.Value, "\n") {
			dst = binary.LittleEndian.AppendUint64(append(dst, '\n'), uint64(len(f.Value)))
		} else {
			dst = append(dst, '=')
		}
		dst = append(append(dst, f.Value...), '\n')
	}
	return dst
}
