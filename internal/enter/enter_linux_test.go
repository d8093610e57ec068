package enter

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"jail/internal/wire"
)

// TestOriginalCommandIsTheLogins: what the administrator's own login was asked for
// does not reach a jail with "jail-init exec".
func TestOriginalCommandIsTheLogins(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth")
	require.NoError(t, os.WriteFile(auth, []byte("publickey ssh-ed25519 AAAA\n"), 0o600))
	env := []string{"SSH_USER_AUTH=" + auth, "SSH_ORIGINAL_COMMAND=backup --password=x"}
	login := &session{in: invocation{runtimeDir: defaultRuntimeDir}}
	login.originalCommand(env)
	assert.Equal(t, wire.FlagOriginal, login.req.Flags)
	assert.Len(t, login.req.Env, 1)
	exec := &session{}
	exec.originalCommand(env)
	assert.Zero(t, exec.req.Flags)
	assert.Empty(t, exec.req.Env)
}
