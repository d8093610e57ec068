package pid1

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/internal/sys"
	"jail/internal/wire"
)

// TestProof: a key that doctor has told of counts for one login, for its time, and as long as
// doctor is there.
func TestProof(t *testing.T) {
	w := newWorld(t, &wire.Setup{Userns: true, Name: "web"}, 7, 9)
	counts := func(uid uint32) string {
		before := len(w.proofs)
		assert.Equal(t, "exited 0 0, end", w.run(uid, "true"))
		return w.proofs[before]
	}
	assert.Empty(t, counts(7))
	tell := func(fd int, p wire.Proof) {
		w.send(fd, wire.AppendProof(nil, &p))
		assert.Equal(t, fmt.Sprint(wire.TypeStatus), w.answer(fd))
	}
	doctor := w.dialControl()
	tell(doctor, wire.Proof{HostUID: 7, Key: "ssh-ed25519 AAAA", Millis: 1000})
	assert.Equal(t, "publickey ssh-ed25519 AAAA", counts(7))
	assert.Empty(t, counts(9), "another login")
	w.l.now += 1000
	assert.Empty(t, w.l.proofOf(&conn{login: w.l.byUID[7]}), "its time is over")

	tell(doctor, wire.Proof{HostUID: 7, Key: "ssh-ed25519 BBBB", Millis: 60_000})
	assert.Equal(t, "publickey ssh-ed25519 BBBB", counts(7))
	assert.Empty(t, w.l.proofOf(&conn{login: -1}), "an administrator's session has no key")
	sys.Close(doctor)
	w.until("doctor has gone", func() bool { return w.l.proof.by == nil })
	assert.Empty(t, counts(7))
	assert.Empty(t, counts(7), "a connection in its place is none of doctor's")

	bad := w.dialControl()
	w.send(bad, append(wire.AppendProof(nil, &wire.Proof{HostUID: 7, Key: "k", Millis: 1}), 0))
	assert.Equal(t, "end", w.answer(bad))
}
