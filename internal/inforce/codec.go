package inforce

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"reflect"
)

// Records are written field by field, in the order of their Go types: a field that a
// type gains is in the file without a line here, and changes the shape that readers
// compare. Numbers are varints, strings and slices have their length in front.

// errRecord is a record that is not as append makes it.
var errRecord = errors.New("malformed record")

// appendRecord appends v, a value of the types that records are made of.
func appendRecord(b []byte, v any) []byte { return appendValue(b, reflect.ValueOf(v)) }

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Int, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...)
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
		return b
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
		return b
	}
	panic("inforce: no record can hold a " + v.Kind().String())
}

// decodeRecord reads the value that v points to from b, and nothing but it.
func decodeRecord(b []byte, v any) error {
	rest, err := decodeValue(b, reflect.ValueOf(v).Elem())
	if err == nil && len(rest) > 0 {
		return errRecord
	}
	return err
}

func decodeValue(b []byte, v reflect.Value) (rest []byte, err error) {
	switch v.Kind() {
	case reflect.Bool:
		if len(b) == 0 || b[0] > 1 {
			return nil, errRecord
		}
		v.SetBool(b[0] == 1)
		return b[1:], nil
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, size := binary.Uvarint(b)
		if size <= 0 || v.OverflowUint(n) {
			return nil, errRecord
		}
		v.SetUint(n)
		return b[size:], nil
	case reflect.Int, reflect.Int64:
		n, size := binary.Varint(b)
		if size <= 0 || v.OverflowInt(n) {
			return nil, errRecord
		}
		v.SetInt(n)
		return b[size:], nil
	case reflect.String:
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, errRecord
		}
		v.SetString(string(b[size : size+int(n)]))
		return b[size+int(n):], nil
	case reflect.Slice:
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) { // an element has a byte at least
			return nil, errRecord
		}
		b = b[size:]
		if n == 0 {
			return b, nil
		}
		v.Grow(int(min(n, 64)))
		for i := range int(n) {
			v.Grow(1)
			v.SetLen(i + 1)
			if b, err = decodeValue(b, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return b, nil
	case reflect.Struct:
		for i := range v.NumField() {
			if b, err = decodeValue(b, v.Field(i)); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	panic("inforce: no record can hold a " + v.Kind().String())
}

// shapeOf sums up the names and types of all that records of these types hold. Every program
// that reads the file does so once: nothing is made for a name but in line.
func shapeOf(types ...any) uint64 {
	h := fnv.New64a()
	line := make([]byte, 0, 64)
	write := func(word string) {
		line = append(append(line[:0], word...), '\n')
		_, _ = h.Write(line)
	}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		write(t.Kind().String())
		switch t.Kind() {
		case reflect.Slice:
			walk(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				f := t.Field(i)
				write(f.Name)
				walk(f.Type)
			}
			write("end")
		}
	}
	for _, t := range types {
		walk(reflect.TypeOf(t))
	}
	return h.Sum64()
}

// decodeNext reads the value that v points to from the beginning of b.
func decodeNext(b []byte, v any) (rest []byte, err error) {
	return decodeValue(b, reflect.ValueOf(v).Elem())
}
