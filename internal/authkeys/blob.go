package authkeys

import (
	"bytes"
	"errors"
	"strings"
)

var (
	errBase64 = errors.New("not base64")
	// ErrType means a key type this package does not know.
	ErrType = errors.New("unknown key type")
	errBlob = errors.New("malformed key")
)

// field checks one string of a key's public part.
type field func([]byte) bool

// publicPart returns what a key of type typ has after the type's name, in order;
// nil if it is not known. A map would be built at every start of PID 1.
func publicPart(typ string) []field {
	switch typ {
	case "ssh-rsa":
		return []field{mpint, mpint}
	case "ssh-dss":
		return []field{mpint, mpint, mpint, mpint}
	case "ssh-ed25519":
		return []field{sized(32)}
	case "ecdsa-sha2-nistp256":
		return []field{named("nistp256"), point(32)}
	case "ecdsa-sha2-nistp384":
		return []field{named("nistp384"), point(48)}
	case "ecdsa-sha2-nistp521":
		return []field{named("nistp521"), point(66)}
	case "sk-ssh-ed25519@openssh.com":
		return []field{sized(32), application}
	case "sk-ecdsa-sha2-nistp256@openssh.com":
		return []field{named("nistp256"), point(32), application}
	}
	return nil
}

const certSuffix = "-cert-v01@openssh.com"

// plainType returns the type of the key in a certificate of type typ.
func plainType(typ string) (plain string, cert bool) {
	base, cert := strings.CutSuffix(typ, certSuffix)
	if !cert {
		return typ, false
	}
	if strings.HasPrefix(base, "sk-") {
		base += "@openssh.com"
	}
	return base, true
}

// decodeBlob decodes a key of that type and checks its form. Two encodings of
// one key would let a line match in sshd and not here: only one is accepted.
func decodeBlob(typ, b64 string) ([]byte, error) {
	plain, _ := plainType(typ)
	if publicPart(plain) == nil {
		return nil, ErrType
	}
	blob, ok := decodeBase64(b64)
	if !ok {
		return nil, errBase64
	}
	if _, err := readBlob(typ, blob, true); err != nil {
		return nil, err
	}
	return blob, nil
}

// certificate is what counts of one here.
type certificate struct {
	id      string // what its authority calls it
	ca      []byte // the key that signed it
	command string // its force-command
	forced  bool   // it has one
}

// readBlob checks that blob is a key of type typ and nothing more. For a
// certificate it returns what that says.
func readBlob(typ string, blob []byte, certAllowed bool) (cert certificate, err error) {
	plain, isCert := plainType(typ)
	fields := publicPart(plain)
	if fields == nil || isCert && !certAllowed {
		return certificate{}, ErrType
	}
	r := reader{blob}
	name, ok := r.str()
	if !ok || string(name) != typ {
		return certificate{}, errBlob
	}
	if isCert {
		if _, ok := r.str(); !ok { // nonce
			return certificate{}, errBlob
		}
	}
	for _, valid := range fields {
		if s, ok := r.str(); !ok || !valid(s) {
			return certificate{}, errBlob
		}
	}
	if isCert {
		if cert, ok = r.certificate(); !ok {
			return certificate{}, errBlob
		}
	}
	if len(r.b) != 0 {
		return certificate{}, errBlob
	}
	return cert, nil
}

// certificate reads what follows the public part (PROTOCOL.certkeys).
func (r *reader) certificate() (cert certificate, ok bool) {
	const (
		serialAndType = 8 + 4
		validity      = 8 + 8
	)
	for _, skip := range []func() bool{
		func() bool { return r.skip(serialAndType) },
		func() bool { id, ok := r.str(); cert.id = string(id); return ok },
		r.skipStr, // principals
		func() bool { return r.skip(validity) },
	} {
		if !skip() {
			return cert, false
		}
	}
	critical, ok := r.str()
	if !ok || !cert.readCritical(critical) || !r.skipStr() /* extensions */ || !r.skipStr() /* reserved */ {
		return cert, false
	}
	cert.ca, ok = r.str()
	if !ok || !r.skipStr() { // signature
		return cert, false
	}
	caType, ok := (&reader{cert.ca}).str()
	if !ok {
		return cert, false
	}
	_, err := readBlob(string(caType), cert.ca, false)
	return cert, err == nil
}

// readCritical reads the critical options, names and values by turns, of which
// sshd knows what it must (auth-options.c:cert_option_list).
func (c *certificate) readCritical(b []byte) bool {
	for r := (reader{b}); len(r.b) > 0; {
		name, ok := r.str()
		value, ok2 := r.str()
		if !ok || !ok2 {
			return false
		}
		if string(name) == "force-command" {
			in := reader{value}
			command, ok := in.str()
			if !ok || len(in.b) > 0 || c.forced || bytes.IndexByte(command, 0) >= 0 { // as sshbuf_get_cstring
				return false
			}
			c.command, c.forced = string(command), true
		}
	}
	return true
}

// An Offer is the key or certificate a client offers.
type Offer struct {
	Type string
	Blob []byte
	CA   []byte // of a certificate, the blob of the key that signed it
	ID   string // of a certificate, its key id, which may be any bytes

	Command    string // a certificate's force-command, when HasCommand
	HasCommand bool
}

// ParseOffer reads a key as sshd passes it on (%t and %k) or notes it in
// SSH_USER_AUTH. The signature of a certificate is sshd's to check.
func ParseOffer(typ, b64 string) (Offer, error) {
	blob, err := decodeBlob(typ, b64)
	if err != nil {
		return Offer{}, err
	}
	cert, err := readBlob(typ, blob, true)
	return Offer{typ, blob, cert.ca, cert.id, cert.command, cert.forced}, err
}

// Matches reports whether sshd would consider the line for the offered key:
// the same key, or for a certificate, the authority that signed it.
// Whether the line's options then allow it is another question.
func (k *Key) Matches(o Offer) bool {
	if o.CA != nil {
		return k.CertAuthority && bytes.Equal(k.Blob, o.CA)
	}
	return !k.CertAuthority && bytes.Equal(k.Blob, o.Blob)
}

// reader reads the wire encoding of RFC 4251, section 5.
type reader struct{ b []byte }

func (r *reader) str() ([]byte, bool) {
	if len(r.b) < 4 {
		return nil, false
	}
	n := uint32(r.b[0])<<24 | uint32(r.b[1])<<16 | uint32(r.b[2])<<8 | uint32(r.b[3])
	if uint64(n) > uint64(len(r.b)-4) {
		return nil, false
	}
	s := r.b[4 : 4+n]
	r.b = r.b[4+n:]
	return s, true
}

func (r *reader) skipStr() bool {
	_, ok := r.str()
	return ok
}

func (r *reader) skip(n int) bool {
	if len(r.b) < n {
		return false
	}
	r.b = r.b[n:]
	return true
}

func sized(n int) field { return func(s []byte) bool { return len(s) == n } }

func named(name string) field { return func(s []byte) bool { return string(s) == name } }

// point is an uncompressed point, the only form sshd takes.
func point(coordinate int) field {
	return func(s []byte) bool { return len(s) == 1+2*coordinate && s[0] == 4 }
}

// application is a security key's "ssh:…", a C string to sshd.
func application(s []byte) bool { return bytes.IndexByte(s, 0) < 0 }

// mpint is a positive number without a superfluous zero byte in front.
func mpint(s []byte) bool {
	const maxBytes = 16384/8 + 1
	switch {
	case len(s) == 0 || len(s) > maxBytes || s[0] >= 0x80:
		return false
	case s[0] == 0:
		return len(s) > 1 && s[1] >= 0x80
	}
	return true
}
