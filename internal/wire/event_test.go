package wire

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sampleEvents() []Event {
	id := [IDLen]byte([]byte("abcdefgh"))
	return []Event{
		{Kind: EventLost, Count: 1 << 40},
		{Kind: EventStarted, At: 1 << 41, ID: id, HostUID: 1001, Session: SessionShell, UID: 1000, TTY: 3, PID: 8},
		{Kind: EventStarted, At: 2, ID: id, HostUID: NoLogin, Session: SessionExec, TTY: NoTTY, PID: 9},
		{Kind: EventEnded, At: 3, ID: id, HostUID: 1001, Status: 255, Millis: 1 << 42},
		{Kind: EventEnded, At: 4, ID: id, HostUID: 1001, Signal: 64},
		{Kind: EventEnded, At: 4, ID: id, HostUID: 1001, Signal: 9, Millis: 5, OutOfMemory: true},
		{Kind: EventRefused, At: 5, ID: id, HostUID: 1002, Status: 125, Text: "no\x1b[31m"},
		{Kind: EventEnding, At: 6, Why: EndTold},
	}
}

func packed(events ...Event) []byte {
	p := AppendEvents(nil)
	for i := range events {
		p = AppendEvent(p, &events[i])
	}
	return p
}

func TestEventsRoundTrip(t *testing.T) {
	want := sampleEvents()
	typ, flags, body, err := Header(packed(want...))
	require.NoError(t, err)
	assert.Equal(t, TypeEvents, typ)
	assert.Zero(t, flags)
	got, err := DecodeEvents(body, nil)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, e := range want {
		one := packed(e)[HeaderLen:]
		for n := range len(one) {
			none, err := DecodeEvents(one[:n], nil)
			assert.ErrorIs(t, err, ErrMalformed, "%d bytes of %d", n, len(one))
			assert.Empty(t, none)
		}
		_, err := DecodeEvents(append(bytes.Clone(one), 0), nil)
		assert.ErrorIs(t, err, ErrMalformed)
	}
	kept := []Event{{Kind: EventLost, Count: 1}}
	got, err = DecodeEvents(body[:len(body)-1], kept)
	assert.ErrorIs(t, err, ErrMalformed)
	assert.Equal(t, kept, got, "of a packet that is wrong anywhere there is nothing")
}

// TestNoEvents: what no PID 1 of ours says.
func TestNoEvents(t *testing.T) {
	started, ended := sampleEvents()[1], sampleEvents()[3]
	for claim, e := range map[string]Event{
		"no kind":                   {},
		"another kind":              {Kind: EventEndedOOM + 1},
		"none lost":                 {Kind: EventLost},
		"no reason":                 {Kind: EventEnding},
		"another reason":            {Kind: EventEnding, Why: EndTold + 1},
		"no kind of session":        {Kind: EventStarted, ID: started.ID},
		"another kind of session":   {Kind: EventStarted, ID: started.ID, Session: SessionProof + 1},
		"a shell that is nobody's":  {Kind: EventStarted, ID: started.ID, Session: SessionShell, HostUID: NoLogin},
		"an exec that is a login's": {Kind: EventStarted, ID: started.ID, Session: SessionExec, HostUID: 7},
		"a signal there is not":     {Kind: EventEnded, ID: ended.ID, Signal: 65},
		"a signal and a status":     {Kind: EventEnded, ID: ended.ID, Signal: 9, Status: 1},
	} {
		_, err := DecodeEvents(packed(e)[HeaderLen:], nil)
		assert.ErrorIs(t, err, ErrMalformed, claim)
	}
}

func TestLimitsOfEvents(t *testing.T) {
	refused := func(n int) Event { return Event{Kind: EventRefused, Text: string(long(n))} }
	p := packed(refused(MaxText))
	assert.Len(t, p, HeaderLen+MaxEvent)
	assert.Equal(t, p, packed(refused(MaxText+1)), "it is cut by the sender")
	_, err := DecodeEvents(p[HeaderLen:], nil)
	assert.NoError(t, err)
	p = p[:len(p)-5-MaxText]
	_, err = DecodeEvents(putString(p, string(long(MaxText+1)))[HeaderLen:], nil)
	assert.ErrorIs(t, err, ErrMalformed, "and refused by the receiver")

	var many []Event
	for range 7 {
		many = append(many, refused(MaxText))
	}
	left := MaxEvents - len(packed(many...)) - len(packed(refused(0))) + HeaderLen
	full := packed(append(many, refused(left))...)
	require.Len(t, full, MaxEvents)
	_, err = DecodeEvents(full[HeaderLen:], nil)
	assert.NoError(t, err)
	over := packed(append(many, refused(left+1))...)
	_, err = DecodeEvents(over[HeaderLen:], nil)
	assert.ErrorIs(t, err, ErrMalformed)
}

// TestHelloForEvents: a PID 1 that does not know the flag takes it for the Hello it knows.
func TestHelloForEvents(t *testing.T) {
	typ, flags, body, err := Header(AppendHelloEvents(nil))
	require.NoError(t, err)
	assert.Equal(t, TypeHello, typ)
	assert.Equal(t, FlagWantLog|FlagWantEvents|FlagWantOOM, flags)
	assert.Empty(t, body)
}

func FuzzEvents(f *testing.F) {
	f.Add(packed(sampleEvents()...)[HeaderLen:])
	f.Fuzz(func(t *testing.T, body []byte) {
		if events, err := DecodeEvents(body, nil); err == nil {
			require.Equal(t, body, packed(events...)[HeaderLen:], "what decodes has one encoding")
		}
	})
}
