package telegram

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("telegram")
	require.True(tb, ok, "make generate tells the mesh of the channel")
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign:     sign,
		Bearer:   func(*channel.Request) bool { return true },
		Canaries: []string{"CANARY", "ada_canary", "781220015", "781220099"},
		StandIn:  standIn,
	}
}

// sign as Telegram does: it repeats the secret.
func sign(r *channel.Request, secret string) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set("X-Telegram-Bot-Api-Secret-Token", secret)
}

const botToken = "6100000001:CANARY-token"

func telegramUp(t *testing.T) (*standin.Telegram, *Adapter) {
	t.Helper()
	s, err := standin.NewTelegram("127.0.0.1:0", botToken)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, New(Config{APIURL: s.URL + "/"}, &http.Client{Timeout: 5 * time.Second})
}

func text(to, text string) *channel.Outgoing {
	return &channel.Outgoing{
		Connection: &channel.Connection{
			ID: "c1", ExternalID: "6100000001", Credentials: map[string]string{"bot_token": botToken, "secret_token": "CANARY-secret"},
		},
		To: to, Text: text,
	}
}

func standIn(t *testing.T) channeltest.StandIn {
	s, a := telegramUp(t)
	s.Keep("AgACAgQAAxkBAAMtZ-large", []byte("jpeg"))
	return channeltest.StandIn{
		Adapter: a, Out: func() *channel.Outgoing { return text("781220015", "") }, Fail: s.Fail,
		Took: func() (took []channeltest.Taken) {
			for _, p := range s.Posts() {
				m := channeltest.Taken{Text: p.Text, FileName: p.FileName, File: p.File}
				if p.ReplyTo != 0 {
					m.ReplyTo = strconv.FormatInt(p.ReplyTo, 10)
				}
				took = append(took, m)
			}
			return took
		},
		Revoked:    map[string]string{"bot_token": "6100000001:revoked", "secret_token": "CANARY-secret"},
		Answerable: "41",
		Media:      channel.MediaRef{ExternalID: "AgACAgQAAxkBAAMtZ-large", ContentType: "image/jpeg"}, File: []byte("jpeg"),
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }

func TestSettingsAreNamedInTheirFaults(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	require.ErrorContains(t, (&Config{APIURL: "elsewhere"}).Validate(), "TRIBUTARY_TELEGRAM_API_URL")
}
