package providers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	smtpUser     = "standin-smtp-user"
	smtpPassword = "standin-smtp-password"
	smtpSecret   = "standin-smtp-webhook-secret"
	smtpMailbox  = "help@smtp.standin.example"
)

// smtp is a mailbox whose mail goes out through a submission server, and comes in as it is, posted by its host.
type smtp struct {
	*standin.SMTP
	folder string // of its authority's certificate
	path   string
	letter longLetter
}

func startSMTP(address string, _ *Host) (Provider, error) {
	authority, err := standin.NewAuthority()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "tributary-standin-")
	if err != nil {
		return nil, err
	}
	s := &smtp{folder: folder, letter: newLongLetter(smtpMailbox)}
	if err := os.WriteFile(s.authorities(), authority.PEM(), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	if s.SMTP, err = standin.NewSMTP(address, smtpUser, smtpPassword, authority); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return s, nil
}

func (s *smtp) authorities() string { return filepath.Join(s.folder, "authority.pem") }

func (*smtp) Channel() string { return "email" }
func (*smtp) Name() string    { return "SMTP" }
func (*smtp) Secret() string  { return smtpSecret }

func (s *smtp) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_EMAIL_SMTP_AUTHORITIES": s.authorities()}
}

func (s *smtp) Connect(ctx context.Context, api *mesh.Client) error {
	id, err := connect(ctx, api, nil, mesh.Object{
		"channel": "email", "name": "Stand-in mailbox", "external_id": smtpMailbox,
		"settings":    mesh.Object{"provider": "smtp", "smtp_host": s.Host(), "smtp_port": s.Port()},
		"credentials": mesh.Object{"smtp_username": smtpUser, "smtp_password": smtpPassword, "webhook_secret": smtpSecret},
	})
	s.path = "/webhooks/email/" + id
	return err
}

func (s *smtp) Says(person, n int, text string, now time.Time) Webhook {
	var b bytes.Buffer
	mailHead(&b, person, n, now, smtpMailbox)
	b.WriteString("Subject: Is it on its way?\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	b.WriteString(strings.ReplaceAll(text, "\n", "\r\n") + "\r\n")
	return s.posted(b.Bytes(), now)
}

// SaysAtLength answers below the whole of what was written before.
func (s *smtp) SaysAtLength(person, n int, text string, now time.Time) Webhook {
	var b bytes.Buffer
	b.Grow(s.letter.size() + 2*len(text) + 1024)
	mailHead(&b, person, n, now, smtpMailbox)
	s.letter.write(&b, person, text)
	return s.posted(b.Bytes(), now)
}

func (s *smtp) posted(mail []byte, now time.Time) Webhook {
	return Webhook{s.path, standin.RawMailHeader(smtpSecret, mail, now), mail}
}

// mailHead is what every mail of a person has.
func mailHead(b *bytes.Buffer, person, n int, now time.Time, to string) {
	from := mailPerson(person)
	fmt.Fprintf(b, "Return-Path: <%s>\r\nDelivered-To: %s\r\nFrom: Person %d <%s>\r\nTo: <%s>\r\nDate: %s\r\nMessage-ID: <%d.%d@mail.example>\r\nMIME-Version: 1.0\r\n",
		from, to, person, from, to, now.Format(time.RFC1123Z), n, now.UnixMicro())
}

func (s *smtp) Taken() (all []Message) {
	for _, m := range s.Mails() {
		text := string(m.Data) // as it is, where it is no mail
		if l, err := m.Letter(); err == nil {
			text = l.Text
		}
		all = append(all, Message{strings.Join(m.To, ", "), text})
	}
	return all
}

func (s *smtp) Close() error { return errors.Join(s.SMTP.Close(), os.RemoveAll(s.folder)) }
