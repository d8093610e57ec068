package provision

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"jail/config/examples"
)

func TestWhereTheBlockGoes(t *testing.T) {
	for text, want := range map[string]bool{
		"Port 22\nInclude /etc/ssh/sshd_config.d/*.conf\n":             true,
		"include sshd_config.d/*.conf\n":                               true,
		"Include=\"/etc/ssh/sshd_config.d/*.conf\"\n":                  true,
		"Include /etc/ssh/other.d/* /etc/ssh/sshd_config.d/*\n":        true,
		"#Include /etc/ssh/sshd_config.d/*.conf\n":                     false,
		"Include /etc/ssh/other #/etc/ssh/sshd_config.d/*.conf\n":      false,
		"Match User x\n  Include /etc/ssh/sshd_config.d/*.conf\n":      false,
		"Include /etc/ssh/sshd_config.d/[x.conf\nInclude /etc/ssh/x/*": false,
		"Include /etc/ssh/sshd_config.d/60-*.conf\n":                   false,
		"": false,
	} {
		assert.Equal(t, want, includes(text, "/etc/ssh", sshdDropin), "%q", text)
	}
	assert.True(t, forces(examples.SSHD))
	assert.False(t, forces("# ForceCommand exec /usr/bin/jail-enter --forced\nForceCommand internal-sftp\n"))

	for _, text := range []string{"", "Port 22\n", "Port 22\nMatch User x\n\tX11Forwarding no\n"} {
		with := withBlock(text, examples.SSHD)
		assert.True(t, forces(with))
		assert.Equal(t, text, withoutBlock(with))
		assert.Equal(t, text+"AllowUsers x\n", withoutBlock(with+"AllowUsers x\n"), "what has been added behind it stays")
	}
	assert.Equal(t, beginMark+"x", withoutBlock(beginMark+"x"), "an end that is not there is not guessed")
	local := installed(examples.SSHD, "/usr/local/bin/jail-enter")
	assert.Contains(t, local, "ForceCommand exec /usr/local/bin/jail-enter --forced")
	assert.Contains(t, local, "AuthorizedKeysCommand /usr/local/lib/jail/jail-keys")
	assert.Equal(t, examples.SSHD, installed(examples.SSHD, "/usr/bin/jail-enter"))
}
