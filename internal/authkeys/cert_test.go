package authkeys

import (
	stded25519 "crypto/ed25519"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// testCert makes a certificate with these critical options, and returns the line
// of SSH_USER_AUTH it leads to and the text of the authority's key.
func testCert(t testing.TB, options map[string]string) (line []byte, ca string) {
	t.Helper()
	_, private, err := stded25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	cert.CriticalOptions = options
	require.NoError(t, cert.SignCert(zero{}, signer))
	text := base64.StdEncoding.EncodeToString(cert.Marshal())
	return []byte("publickey " + cert.Type() + " " + text), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { return len(p), nil }

func TestACertificatesCommandHolds(t *testing.T) {
	forced, ca := testCert(t, map[string]string{"force-command": "internal-sftp -R", "source-address": "10.0.0.0/8"})
	free, freeCA := testCert(t, map[string]string{"source-address": "10.0.0.0/8"})
	other, _ := testCert(t, map[string]string{"force-command": "id"})
	key := testKey(1)
	for claim, tt := range map[string]struct {
		file    string
		auth    [][]byte
		here    bool // keys are nowhere else
		command string
		has     bool
		err     error
	}{
		"of an authority sshd_config names":         {auth: [][]byte{forced}, command: "internal-sftp -R", has: true},
		"of an authority the file names":            {file: "cert-authority " + ca, auth: [][]byte{forced}, command: "internal-sftp -R", has: true},
		"beside the same command of the line":       {file: `cert-authority,command="internal-sftp -R" ` + ca, auth: [][]byte{forced}, command: "internal-sftp -R", has: true},
		"beside another command of the line":        {file: `cert-authority,command="id" ` + ca, auth: [][]byte{forced}, err: ErrTwoForced},
		"the line's where the certificate has none": {file: `cert-authority,command="id" ` + freeCA, auth: [][]byte{free}, command: "id", has: true},
		"none at all":                            {auth: [][]byte{free}},
		"of an authority the file does not name": {auth: [][]byte{forced}, here: true, err: ErrNoLine},
		"the same without a command":             {file: "cert-authority " + ca, auth: [][]byte{free}, here: true, err: ErrNoLine},
		"of the only authority there may be":     {file: "cert-authority " + freeCA, auth: [][]byte{free}, here: true},
		"an authority's line for keys":           {file: freeCA, auth: [][]byte{free}, here: true, err: ErrNoLine},
		"two certificates that differ":           {auth: [][]byte{forced, other}, err: ErrTwoCommands},
		"beside a free key":                      {file: key, auth: [][]byte{[]byte("publickey " + key), forced}, command: "internal-sftp -R", has: true},
		"one that cannot be read":                {auth: [][]byte{forced[:len(forced)-9]}, err: ErrUnreadable},
		"one of a kind that is not known":        {auth: [][]byte{[]byte("publickey ssh-new-cert-v01@openssh.com AAAA")}, err: ErrUnreadable},
	} {
		command, has, err := Rule([]byte(tt.file), tt.auth, true, !tt.here)
		assert.ErrorIs(t, err, tt.err, claim)
		assert.Equal(t, tt.command, command, claim)
		assert.Equal(t, tt.has, has, claim)
	}
}

func TestCriticalOptionsOfWrongForm(t *testing.T) {
	str := func(s string) string { return string([]byte{0, 0, 0, byte(len(s))}) + s }
	for claim, tt := range map[string]struct {
		options string
		command string
		ok      bool
	}{
		"none":             {"", "", true},
		"well-formed":      {str("force-command") + str(str("id")), "id", true},
		"empty":            {str("force-command") + str(str("")), "", true},
		"not wrapped":      {str("force-command") + str("id"), "", false},
		"something behind": {str("force-command") + str(str("id")+"x"), "", false},
		"twice":            {str("force-command") + str(str("id")) + str("force-command") + str(str("id")), "", false},
		"a NUL in it":      {str("force-command") + str(str("id\x00")), "", false},
		"half an option":   {str("force-command"), "", false},
	} {
		var c certificate
		assert.Equal(t, tt.ok, c.readCritical([]byte(tt.options)), claim)
		if tt.ok {
			assert.Equal(t, tt.command, c.command, claim)
		}
	}
}
