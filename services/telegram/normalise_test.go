package telegram

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

func normalised(t *testing.T, updateID int64, kind string, of map[string]any) []channel.Event {
	t.Helper()
	result, err := New(*DefaultConfig(), nil).Normalise(&channel.Request{Body: standin.TelegramUpdate(updateID, kind, of)})
	require.NoError(t, err)
	require.Empty(t, result.Faults)
	return result.Events
}

// Whatever the order in which updates come, it is the order in which they were written.
func TestMessagesOfOneSecondKeepTheirOrder(t *testing.T) {
	at := time.Unix(1773500960, 0)
	first := normalised(t, 11, "message", standin.TelegramMessage(41, 7, "Ada", at, "one"))[0]
	second := normalised(t, 10, "message", standin.TelegramMessage(42, 7, "Ada", at, "two"))[0]
	next := normalised(t, 9, "message", standin.TelegramMessage(43, 7, "Ada", at.Add(time.Second), "three"))[0]
	assert.Less(t, first.Order, second.Order)
	assert.Less(t, second.Order, next.Order)
	assert.Equal(t, at.UnixMicro(), first.Order-first.Order%1_000_000)
}

func TestAnEditComesAfterWhatItEdits(t *testing.T) {
	at := time.Unix(1773500960, 0)
	m := standin.TelegramMessage(999_999, 7, "Ada", at, "one")
	message := normalised(t, 1_000_001, "message", m)[0]
	m["edit_date"] = at.Unix()
	once := normalised(t, 1_000_002, "edited_message", m)[0] // its number begins anew in this second
	m["edit_date"] = at.Unix() + 1
	again := normalised(t, 1_000_003, "edited_message", m)[0]
	assert.Less(t, message.Order, once.Order)
	assert.Less(t, once.Order, again.Order)
	assert.Equal(t, message.ExternalID, once.Target)
}

func TestWhatIsSentIsNamedAsItsReactionsNameIt(t *testing.T) {
	s, a := telegramUp(t)
	sent, err := a.Send(t.Context(), text("781220015", "hello"))
	require.NoError(t, err)
	e := normalised(t, 5, "message_reaction", map[string]any{
		"chat": map[string]any{"id": 781220015, "type": "private"}, "message_id": s.Posts()[0].ID, "date": 1773500960,
		"user": map[string]any{"id": 781220015}, "new_reaction": []any{map[string]any{"type": "emoji", "emoji": "👍"}},
	})
	require.Len(t, e, 1)
	assert.Equal(t, sent.ExternalID, e[0].Target)
}
