package netload

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"jail/internal/network"
)

// Answer reads a network.Request, does what it says, and writes the network.Answer. The
// error is for what is no request.
func Answer(r io.Reader, w io.Writer) error {
	var q network.Request
	if err := json.NewDecoder(r).Decode(&q); err != nil {
		return err
	}
	a, err := locked(&q)
	if err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(w).Encode(a)
}

func locked(q *network.Request) (network.Answer, error) {
	lock, err := os.OpenFile(q.Lock, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return network.Answer{}, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return network.Answer{}, fmt.Errorf("lock %s: %w", q.Lock, err)
	}
	return Apply(q.Pins, &q.Plan)
}
