package provision

import (
	"strings"
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

// The block is for the groups of [[match]], too, and whatever else stands in it stays.
func TestTheBlocksGroups(t *testing.T) {
	for _, groups := range [][]string{nil, {"students"}, {"students", "staff-2"}} {
		text := blockFor(append([]string{Group}, groups...))
		got, ok := blockGroups(text)
		assert.True(t, ok)
		assert.Equal(t, groups, got)
		o := Options{Enter: "/usr/bin/jail-enter"}
		assert.True(t, o.wrote(text))
		assert.False(t, o.wrote(text+"# ours\n"), "what has been changed by hand is not removed")
		for _, g := range append(groups, Group) {
			assert.True(t, sendsGroup(text, g), g)
		}
		assert.False(t, sendsGroup(text, "student"))
	}
	assert.Equal(t, examples.SSHD, blockFor(nil))
	changed := strings.Replace(blockFor([]string{"students"}), "AllowTcpForwarding no", "AllowTcpForwarding yes", 1)
	got, ok := blockGroups("Port 22\n" + changed)
	assert.True(t, ok)
	assert.Equal(t, []string{"students"}, got)
	for _, text := range []string{"Match Group jailed Address 10.0.0.0/8\n", "Match Group staff,jailed\n", "# Match Group jailed\n", "Match Group jailed,\n"} {
		_, ok := blockGroups(text)
		assert.False(t, ok, text)
	}
	assert.True(t, sendsGroup("Match group=stud* user x\nForceCommand exec /usr/bin/jail-enter --forced\n", "students"))
	assert.False(t, sendsGroup("Match Group students\nX11Forwarding no\nMatch Group staff\nForceCommand exec /usr/bin/jail-enter\n", "students"), "that is another's block")
}
