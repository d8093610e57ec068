package login

import "jail/internal/wire"

// ID names one session in what users see and logs say: letters and digits that
// cannot be taken for one another. It is no secret.
type ID [wire.IDLen]byte

// String returns the ID's text.
func (id ID) String() string { return string(id[:]) }

// letters has no l, o, 0 and 1. Each stands for five bits.
const letters = "abcdefghijkmnpqrstuvwxyz23456789"

// Valid reports whether id can be one that IDs has minted.
func (id ID) Valid() bool {
	for _, c := range id {
		known := false
		for i := 0; i < len(letters); i++ {
			known = known || letters[i] == c
		}
		if !known {
			return false
		}
	}
	return true
}

// Halves of an ID's number, in bits.
const (
	half     = 5 * wire.IDLen / 2
	halfMask = 1<<half - 1
)

// IDs mints the IDs of one jail.
//
// It counts on from the time of its start in milliseconds. A jail has fewer sessions
// than a thousand a second in the long run, so the next start of the same jail begins
// behind the last number of this one, and a number is used again after 2^40 ms, which
// is 34 years. What is shown is a permutation of that number which depends on the
// jail's name: IDs of one jail never meet, IDs of two seldom.
type IDs struct {
	next uint64
	key  uint64
}

// NewIDs returns a mint for the jail of that name, started at unixMillis, the wall
// clock's milliseconds since 1970.
func NewIDs(jail string, unixMillis int64) IDs {
	key := uint64(0xcbf29ce484222325) // FNV-1a
	for i := 0; i < len(jail); i++ {
		key = (key ^ uint64(jail[i])) * 0x100000001b3
	}
	return IDs{next: uint64(unixMillis), key: key}
}

// Next returns an ID that has not been given before.
func (m *IDs) Next() ID {
	n := m.next
	m.next++
	// A Feistel network is a permutation whatever its rounds do.
	left, right := n>>half&halfMask, n&halfMask
	for round := uint64(0); round < 4; round++ {
		x := (right ^ m.key ^ round<<half) * 0x9e3779b97f4a7c15
		x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
		left, right = right, left^x>>(64-half)
	}
	n = left<<half | right
	var id ID
	for i := range id {
		id[i] = letters[n&31]
		n >>= 5
	}
	return id
}
