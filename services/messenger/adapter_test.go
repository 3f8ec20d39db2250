package messenger

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

// ourApp at Meta; page is a connection of it.
const (
	ourApp = "1517776481860111"
	page   = "682498302938465"
	ada    = "7311285728960001"
	// user is the id that our app knows a person by who connected Pages.
	user = "10220000000000001"
)

func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("messenger")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return New(*DefaultConfig(), http.DefaultClient) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			if r.Header == nil {
				r.Header = http.Header{}
			}
			if _, ok := callback(r); ok {
				r.Body = signedForm(r.Body, secret)
				return
			}
			r.Header["X-Hub-Signature-256"] = standin.GraphHeader(secret, r.Body)["X-Hub-Signature-256"]
		},
		// Of a callback one field is signed; TestOnlyASignedRequestIsACallback says what may be beside it.
		Bearer:   func(r *channel.Request) bool { _, ok := callback(r); return ok },
		AppID:    ourApp,
		Canaries: []string{"CANARY-messenger", "canary-messenger", user},
		StandIn:  standIn,
	}
}

// signedForm signs the signed_request of a form in place of the signature that it has.
func signedForm(body []byte, secret string) []byte {
	head, tail, ok := strings.Cut(string(body), ".")
	name, _, named := strings.Cut(head, "=")
	if !ok || !named {
		return body
	}
	encoded, more, others := strings.Cut(tail, "&")
	signed := name + "=" + standin.GraphSignedRequest(secret, encoded)
	if others {
		signed += "&" + more
	}
	return []byte(signed)
}

func standIn(t *testing.T) channeltest.StandIn {
	g, a := graphUp(t)
	g.Keep("a.jpg", standin.Media{ContentType: "image/jpeg", Data: []byte("jpeg")})
	g.Know(ada, standin.GraphPerson{FirstName: "Ada", LastName: "Lovelace"})
	return channeltest.StandIn{
		Adapter: a, Out: func() *channel.Outgoing { return text("") }, Fail: g.Fail,
		Took: func() (took []channeltest.Taken) {
			for _, p := range g.Posts() {
				took = append(took, channeltest.Taken{Text: p.Text, FileName: p.FileName, File: p.File, FileURL: p.URL, ReplyTo: p.ReplyTo})
			}
			return took
		},
		Revoked:    map[string]string{"page_token": "EAArevoked"},
		Answerable: "m_answered",
		Media:      channel.MediaRef{URL: g.URL + "/media/files/a.jpg", ContentType: "image/jpeg"}, File: []byte("jpeg"),
		Person: &channel.Identity{Kind: "psid", Value: page + ":" + ada}, Name: "Ada Lovelace",
	}
}

func TestConformance(t *testing.T) { channeltest.Run(t, kit(t)) }

func FuzzNormalise(f *testing.F) { channeltest.Fuzz(f, kit(f)) }
