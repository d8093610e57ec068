package sys

// Wrap returns the error "what: err", which unwraps to err. PID 1 uses it where
// other programs use fmt.Errorf: the packages that fmt brings, os and reflect among
// them, would be a tenth of the pages a cold start has to bring in.
func Wrap(what string, err error) error { return &wrapped{what, err} }

type wrapped struct {
	what string
	err  error
}

func (w *wrapped) Error() string { return w.what + ": " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }
