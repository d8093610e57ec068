package supervise

import "jail/internal/wire"

// Orders are what a PID 1 has still to be told: it may read slowly, or not at all. They
// are kept in order and bounded by the number of logins: what comes later about a login
// takes the place of what was to be said before. That a login is dropped is always
// said, before a new one of the same uid is added.
type Orders struct {
	stop     bool
	sessions *wire.SessionLimits
	list     []*order
	byUID    map[uint32]*order
}

type order struct {
	uid  uint32
	drop bool
	add  *wire.Identity
	fd   int
}

// Order is the next thing to say.
type Order struct {
	Packet []byte
	// FD is the descriptor that goes with it, the caller's; -1 without.
	FD int
}

// Stop is to end the jail. It is said before everything else.
func (o *Orders) Stop() { o.stop = true }

// Limit is what sessions may have from now on. It is for a PID 1 that knows that message.
func (o *Orders) Limit(s wire.SessionLimits) { o.sessions = &s }

// Drop ends a login. A listener that was to be handed over for it is needed no more.
func (o *Orders) Drop(uid uint32) {
	e := o.of(uid)
	e.drop, e.add = true, nil
}

// Add hands over the listener of a login, which stays the caller's and has to be
// open until Drop, or until the order has been said.
func (o *Orders) Add(id wire.Identity, fd int) {
	e := o.of(id.HostUID)
	e.add, e.fd = &id, fd
}

func (o *Orders) of(uid uint32) *order {
	if e := o.byUID[uid]; e != nil {
		return e
	}
	if o.byUID == nil {
		o.byUID = map[uint32]*order{}
	}
	e := &order{uid: uid}
	o.byUID[uid] = e
	o.list = append(o.list, e)
	return e
}

// Next returns what is to be said now; nothing is left if it reports false.
func (o *Orders) Next() (Order, bool) {
	switch {
	case o.stop:
		return Order{wire.AppendStop(nil, wire.Stop{GraceMillis: Grace}), -1}, true
	case o.sessions != nil:
		return Order{wire.AppendSessions(nil, o.sessions), -1}, true
	case len(o.list) == 0:
		return Order{FD: -1}, false
	case o.list[0].drop:
		return Order{wire.AppendDropLogin(nil, o.list[0].uid), -1}, true
	}
	return Order{wire.AppendAddLogin(nil, o.list[0].add), o.list[0].fd}, true
}

// Said takes away what Next has returned.
func (o *Orders) Said() {
	if o.stop {
		o.stop = false
		return
	}
	if o.sessions != nil {
		o.sessions = nil
		return
	}
	if e := o.list[0]; e.drop && e.add != nil {
		e.drop = false
		return
	}
	delete(o.byUID, o.list[0].uid)
	o.list[0] = nil
	o.list = o.list[1:]
}

// Forget takes away everything: there is nobody to be told.
func (o *Orders) Forget() { *o = Orders{} }
