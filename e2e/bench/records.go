package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"jail/internal/fdsock"
	"jail/internal/jail"
	"jail/internal/record"
	"jail/internal/wire"
)

// records: what a session costs that leaves a record, beside one on a supervisor that hears
// no jail-enter and whose records cannot be written.
func (b *bench) records() error {
	uid := uint32(uidMany + manyJails - 1)
	off, err := b.serve("unrecorded", fmt.Sprintf("version = 1\n[jail.unrecorded]\nidle_timeout = \"0\"\nrootfs = %q\n\t[jail.unrecorded.users]\n\t%s = { uid = 1000, shell = %q }\n",
		b.root(fmt.Sprintf("many%d", manyJails-1)), login(int(uid)), trueInside))
	if err != nil {
		return err
	}
	defer off.stop()
	if err := os.Remove(filepath.Join(off.runtimeDir(), wire.CallerName)); err != nil {
		return err
	}
	// A directory where the login's own socket would be.
	if err := os.Mkdir(fdsock.CallsPath(off.runtimeDir(), jail.HostUID(uid)), 0o700); err != nil {
		return err
	}
	if err := os.RemoveAll(record.Dir(off.runtimeDir())); err != nil {
		return err
	}
	if err := os.WriteFile(record.Dir(off.runtimeDir()), nil, 0o600); err != nil {
		return err
	}
	ours := b.enter(uidTrue, "-c", "true")
	without := b.enter(uid, "--runtime-dir", off.runtimeDir(), "-c", "true")
	without.name = "without records"
	if err := interleave(b.n(1000, 300), b.share()+10*time.Second, ours, without); err != nil {
		return fmt.Errorf("%w (%s)", err, off.last)
	}
	b.race("records: static true in a running jail", ours, nil, nil, []*contestant{without}, "≤ 1.03 × without", without, 1.03)
	return nil
}
