package email

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/channeltest"
	"tributary.dev/libs/channel/standin"
)

// kit of a mailbox at Postmark: its webhooks repeat the secret.
func kit(tb testing.TB) channeltest.Kit {
	features, ok := channel.Lookup("email")
	require.True(tb, ok)
	return channeltest.Kit{
		New:      func() channel.Adapter { return made(tb, nil) },
		Features: features,
		Sign: func(r *channel.Request, secret string) {
			bearing(r, standin.PostmarkAuthorisation(secret))
		},
		Bearer:   func(*channel.Request) bool { return true },
		Samples:  "testdata/postmark",
		Settings: map[string]string{"trusted_host": "mx.shop.example"},
		Canaries: []string{"CANARY-email", "CANARY-subject", "CANARY-details", "lovelace"},
		StandIn:  postmarkStandIn,
	}
}

// smtpKit of a mailbox whose mail comes as it is, signed, and leaves through a submission server.
func smtpKit(tb testing.TB) channeltest.Kit {
	k := kit(tb)
	k.Bearer, k.Samples, k.StandIn = nil, "testdata/smtp", smtpStandIn
	k.Settings = map[string]string{"provider": "smtp", "trusted_host": "mx.shop.example"}
	k.Sign = func(r *channel.Request, secret string) {
		bearing(r, standin.RawMailHeader(secret, r.Body, r.ReceivedAt))
	}
	return k
}

// bearing gives a request what its provider proves it by.
func bearing(r *channel.Request, header http.Header) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	header.Del("Content-Type") // the request's own stays
	maps.Copy(r.Header, header)
}

// made is an adapter under test; change is made to its settings.
func made(tb testing.TB, change func(*Config, *Deps)) *Adapter {
	tb.Helper()
	cfg, deps := DefaultConfig(), Deps{HTTP: http.DefaultClient, Secret: []byte("a secret of 32 bytes for tests..")}
	if change != nil {
		change(cfg, &deps)
	}
	require.NoError(tb, cfg.Validate())
	a, err := New(*cfg, deps)
	require.NoError(tb, err)
	return a
}

// question is the Message-ID of a mail that may be answered.
const question = "question-1@mail.example.com"

// empty is a message of the provider's connection without text and files.
func empty(out *channel.Outgoing) *channel.Outgoing {
	out.Text, out.Subject, out.Attachments, out.References = "", "Re: Wo ist mein Paket?", nil, nil
	return out
}

func postmarkStandIn(t *testing.T) channeltest.StandIn {
	s, err := standin.NewPostmark("127.0.0.1:0", "token")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return channeltest.StandIn{
		Adapter: made(t, func(c *Config, d *Deps) { c.PostmarkURL, d.HTTP = s.URL, &http.Client{Timeout: 10 * time.Second} }),
		Out:     func() *channel.Outgoing { return empty(outgoing("postmark")) },
		Fail:    s.Fail,
		Took: func() (took []channeltest.Taken) {
			for _, m := range s.Mails() {
				one := channeltest.Taken{Text: m.TextBody, ReplyTo: strings.Trim(m.Header("In-Reply-To"), "<>")}
				require.Equal(t, m.Header("In-Reply-To"), m.Header("References"))
				for _, f := range m.Attachments {
					one.FileName, one.File = f.Name, f.Content
				}
				took = append(took, one)
			}
			return took
		},
		Revoked: map[string]string{"server_token": "revoked", "webhook_secret": "webhook-secret"}, Answerable: question,
	}
}

func smtpStandIn(t *testing.T) channeltest.StandIn {
	s, a, out := submission(t)
	connection := *out.Connection
	return channeltest.StandIn{
		Adapter: a, Definite: true, Answerable: question,
		Out: func() *channel.Outgoing {
			own, out := connection, outgoing("smtp")
			out.Connection = &own
			return empty(out)
		},
		Fail: func(f standin.Fault) { s.Fail(submissionFault(f)) },
		Took: func() (took []channeltest.Taken) {
			for _, m := range s.Mails() {
				took = append(took, takenMail(t, m))
			}
			return took
		},
		Revoked: map[string]string{"smtp_username": "help", "smtp_password": "revoked"},
	}
}

// submissionFault has a submission server fail as an API does: too much is refused before the mail is given, and what
// breaks breaks at its end.
func submissionFault(f standin.Fault) standin.SMTPFault {
	if f == nil {
		return nil
	}
	return func(n int, command string) standin.SMTPFailure {
		failure := f(n, command)
		switch {
		case command == "MAIL" && failure.Refuse == http.StatusTooManyRequests:
			return standin.SMTPFailure{Refuse: 450, Status: "4.7.1"}
		case command == "DOT" && failure.Refuse >= 500:
			return standin.SMTPFailure{Refuse: 451, Status: "4.3.0"}
		case command == "DOT" && failure.HangUp:
			return standin.SMTPFailure{HangUp: true}
		}
		return standin.SMTPFailure{}
	}
}

// takenMail reads a mail as others do, with nothing of the adapter's.
func takenMail(t *testing.T, m standin.SMTPMail) channeltest.Taken {
	l, err := m.Letter()
	require.NoError(t, err)
	require.Equal(t, l.Header.Get("In-Reply-To"), l.Header.Get("References"))
	taken := channeltest.Taken{Text: l.Text, ReplyTo: strings.Trim(l.Header.Get("In-Reply-To"), "<>")}
	for _, f := range l.Files {
		taken.FileName, taken.File = f.Name, f.Data
	}
	return taken
}

func TestConformance(t *testing.T) {
	t.Run("postmark", func(t *testing.T) { channeltest.Run(t, kit(t)) })
	t.Run("smtp", func(t *testing.T) { channeltest.Run(t, smtpKit(t)) })
}

func FuzzPostmark(f *testing.F) { channeltest.Fuzz(f, kit(f)) }

func FuzzMail(f *testing.F) { channeltest.Fuzz(f, smtpKit(f)) }
