package provider

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel/standin"
)

func TestATelegramTokenIsOfItsBot(t *testing.T) {
	const token = "123456789:AAcanary-token-of-a-bot-0123456789"
	bot, err := standin.NewTelegram("127.0.0.1:0", token)
	require.NoError(t, err)
	defer bot.Close()
	p := &telegram{url: bot.URL, api: caller{&http.Client{Timeout: 5 * time.Second}}}
	check := func(id, token string) error {
		return p.Check(t.Context(), App{}, Account{ExternalID: id, Credentials: map[string]string{"bot_token": token}})
	}
	require.NoError(t, check("123456789", token))
	require.Equal(t, "external_id", Wrong(check("987654321", token)))
	other := check("123456789", "123456789:AAcanary-of-nobody-0123456789012345")
	require.Equal(t, "credentials/bot_token", Wrong(other))
	require.True(t, Void(other))
	bot.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: http.StatusBadGateway} })
	broken := check("123456789", token)
	require.Error(t, broken)
	require.False(t, Void(broken))
	require.NoError(t, bot.Close())
	gone := check("123456789", token)
	require.Equal(t, "unreachable", Reason(gone))
	require.NotContains(t, gone.Error(), "canary")
}
