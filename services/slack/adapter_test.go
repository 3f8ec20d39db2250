package slack

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

const ourApp = "A0KRD7HC3"

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("slack")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			if r.Header == nil {
				r.Header = http.Header{}
			}
			for name, values := range standin.SlackHeader(secret, r.Body, r.ReceivedAt) {
				if name != "Content-Type" {
					r.Header[name] = values
				}
			}
		},
		AppID:    ourApp,
		Canaries: []string{"CANARY-slack", "canary-slack", "CANARY-bot"},
		StandIn:  standIn,
	}
}

func standIn(t *testing.T) channeltest.StandIn {
	s, a := slackUp(t)
	return channeltest.StandIn{
		Adapter: a, Out: func() *channel.Outgoing { return text("C1:1773500965.000200", "") }, Fail: s.Fail,
		Took: func() (took []channeltest.Taken) {
			for _, p := range s.Posts() {
				took = append(took, channeltest.Taken{Text: p.Text, FileName: p.FileName, File: p.File})
			}
			return took
		},
		Revoked: map[string]string{"bot_token": "revoked"},
		Media:   channel.MediaRef{URL: s.URL + "/files/a.jpg"}, File: []byte("jpeg"),
		Person: &channel.Identity{Kind: "slack_user", Value: "T1:U1"}, Name: "Ada",
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
