package record

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTail: what comes is read once, over the renaming of the file, and half a line when it
// is whole.
func TestTail(t *testing.T) {
	s := Open(t.TempDir())
	var got []int
	take := func(e *Entry) { got = append(got, int(e.Count)) }
	bad := func(d *Damage) { t.Error(d) }
	tail, err := s.Tail("web", take, bad)
	require.NoError(t, err)
	defer func() { tail.Close() }()
	require.NoError(t, tail.More(take, bad))
	assert.Empty(t, got, "there is no file")
	require.NoError(t, s.Append("web", line(1)))
	require.NoError(t, tail.More(take, bad))
	require.NoError(t, tail.More(take, bad))
	assert.Equal(t, []int{1}, got)

	require.NoError(t, s.Append("web", line(2)))
	require.NoError(t, rotate(s.path("web")))
	require.NoError(t, s.Append("web", line(3)))
	require.NoError(t, tail.More(take, bad))
	assert.Equal(t, []int{1, 2, 3}, got)

	f, err := s.openLocked(s.path("web"))
	require.NoError(t, err)
	text := line(4)
	_, err = f.WriteAt(text[:10], int64(len(line(3))))
	require.NoError(t, err)
	require.NoError(t, tail.More(take, bad))
	assert.Equal(t, []int{1, 2, 3}, got)
	_, err = f.WriteAt(text[10:], int64(len(line(3)))+10)
	require.NoError(t, err)
	f.Close()
	require.NoError(t, tail.More(take, bad))
	assert.Equal(t, []int{1, 2, 3, 4}, got)

	got = nil
	again, err := s.Tail("web", take, bad)
	require.NoError(t, err)
	again.Close()
	assert.Equal(t, []int{1, 2, 3, 4}, got)

	require.NoError(t, s.Append("web", append([]byte("{\n"), line(5)...)))
	damage := ""
	require.NoError(t, tail.More(take, func(d *Damage) { damage = d.Error() }))
	assert.Equal(t, s.path("web")+":3: is no entry", damage)
}
