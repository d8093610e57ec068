package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"jail/internal/rootpath"
)

// journal is the plan of the run that is under way, or of one that has not ended.
type journal struct {
	dir  *os.File // of the state, locked
	path string
}

const journalName = "unfinished"

// openJournal takes the lock that makes runs one after the other.
func openJournal(dir string) (*journal, error) {
	if err := rootpath.MakePublic(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "."+journalName+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another jail add, rm, edit or setup is at work; try again when it has ended")
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return &journal{dir: lock, path: filepath.Join(dir, journalName)}, nil
}

func (j *journal) close() { j.dir.Close() }

// write puts a plan on the disk. Nothing of it may be made before.
func (j *journal) write(p *Plan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	dir, err := rootpath.OpenDir(filepath.Dir(j.path), unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := rootpath.WriteAt(dir, journalName, text, 0o600, -1, -1); err != nil {
		return fmt.Errorf("write %s: %w", j.path, err)
	}
	return nil
}

// read returns the plan of a run that has not ended, nil if there is none.
func (j *journal) read() (*Plan, error) {
	text, err := os.ReadFile(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var p Plan
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("%s cannot be read (%w): it says what an unfinished run has made; look at it, and remove it", j.path, err)
	}
	return &p, nil
}

// done says that nothing of a plan is unfinished.
func (j *journal) done() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
