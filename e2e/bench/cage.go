package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// homes is where the homes of cages are: in none of the places that a cage has of its own,
// as the scratch directory is.
const homes = "/srv"

// needHomes shows the scratch directory at homes, in this mount namespace.
func (b *bench) needHomes() error {
	if exists(filepath.Join(homes, "bench-homes")) {
		return nil
	}
	if err := os.MkdirAll(b.root("homes/bench-homes"), 0o755); err != nil {
		return err
	}
	if err := unix.Mount(b.root("homes"), homes, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount %s: %w", homes, err)
	}
	return nil
}

// cage: the same as warm and cold in cages of the host, beside jails that are directories.
func (b *bench) cage() error {
	if err := b.needHomes(); err != nil {
		return err
	}
	text := "version = 1\n[defaults]\nidle_timeout = \"0\"\n"
	for uid, name := range map[int]string{uidCage: "cage", uidColdCage: "coldcage"} {
		home := filepath.Join(homes, name)
		if err := errors.Join(os.MkdirAll(home, 0o700), os.WriteFile(home+"/true", program(codeTrue), 0o755), os.Chown(home, uid, uid)); err != nil {
			return err
		}
		text += fmt.Sprintf("[jail.%[1]s]\nrootfs = \"host\"\n[jail.%[1]s.users.%[2]s]\nhome = %[3]q\nshell = \"%[3]s/true\"\n", name, login(uid), home)
	}
	s, err := b.serve("cages", text+b.coldJail())
	if err != nil {
		return err
	}
	defer s.stop()
	enter := func(uid uint32) *contestant {
		return b.enter(uid, "--runtime-dir", s.runtimeDir(), "-c", "true")
	}
	ours, other := enter(uidCage), b.enter(uidTrue, "-c", "true")
	other.name = "the same in a directory"
	if err := interleave(b.n(400, 60), b.share(), ours, other); err != nil {
		return err
	}
	b.race("cage of the host, warm: static true", ours, nil, []*contestant{other}, nil, "≤ 1.1 × a directory", other, 1.1)
	ours, other = enter(uidColdCage), enter(uidCold)
	other.name = "the same in a directory"
	ours.after = func() error { return s.halt("coldcage") }
	other.after = func() error { return s.halt("cold") }
	if err := interleave(b.n(150, 25), b.share(), ours, other); err != nil {
		return err
	}
	b.race("cage of the host, cold: first command", ours, nil, []*contestant{other}, nil, "≤ 2 × a directory", other, 2)
	return nil
}
