package keys

import (
	"runtime"

	"jail/internal/jail"
	"jail/internal/passwd"
	"jail/internal/rootpath"
)

// Seen is what jail-keys finds of a login in its jail.
type Seen struct {
	// Tree is the jail as it was opened, with root's rights; nil, and Err why, if it
	// could not be.
	Tree *rootpath.Tree
	Err  error
	// User is who the login is inside; UserErr is why that is nobody.
	User    passwd.Entry
	UserErr error
	// Keys is the number of keys that it may print. KeysErr is why there are none, Note
	// the complaint about a line.
	Keys    int
	KeysErr error
	Note    string
}

// Look looks for a login's keys as jail-keys does, in the same order and with the same
// rights, and calls look with what it has found, with these rights too. It takes them from a
// thread of its own, so that the program keeps its others.
//
// Of what is below the root directory nothing is waited for but the file system itself,
// which may not answer: who must come back calls it from a process that can be left behind.
func Look(spec *jail.Spec, lg *jail.Login, look func(*Seen)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and no UnlockOSThread: the thread ends here
		s := &Seen{}
		s.Tree, s.Err = openTree(spec)
		if s.Tree != nil {
			defer s.Tree.Close()
			s.Err = dropThread(lg)
		}
		if s.Err == nil {
			s.see(lg)
		}
		look(s)
	}()
	<-done
}

func (s *Seen) see(lg *jail.Login) {
	u, err := userOf(s.Tree, lg)
	if s.UserErr = err; err != nil {
		return
	}
	s.User = *u
	text, err := readHome(s.Tree, u, strictModes(uint32(lg.UID)))
	if s.KeysErr = err; err != nil {
		return
	}
	var out []byte
	out, s.Note = choose(text, nil, true)
	for _, c := range out {
		if c == '\n' {
			s.Keys++
		}
	}
}
