package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
)

// inlet knows two mailboxes, and remembers what was taken for each.
type inlet struct {
	mu      sync.Mutex
	taken   map[string][]channel.Event
	failing map[string]error // by connection id, of Take
	unsure  bool
}

func (i *inlet) Account(_ context.Context, externalID string) (*channel.Connection, bool, error) {
	if i.unsure {
		return nil, false, errors.New("not now")
	}
	id, ok := map[string]string{"help@shop.example": "help", "sales@shop.example": "sales", "plus+tag@shop.example": "plus"}[externalID]
	return &channel.Connection{ID: id, ExternalID: externalID, Channel: "email"}, ok, nil
}

func (i *inlet) Take(_ context.Context, conn *channel.Connection, result channel.Result) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.failing[conn.ID]; err != nil {
		return err
	}
	i.taken[conn.ID] = append(i.taken[conn.ID], result.Events...)
	return nil
}

func (i *inlet) of(connection string) []channel.Event {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.taken[connection]
}

// listening starts the adapter's listener; it ends with the test.
func listening(t *testing.T, a *Adapter, in *inlet) (address string) {
	t.Helper()
	if in.taken == nil {
		in.taken = map[string][]channel.Event{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.serve(ctx, l, in) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended, "a listener that is stopped ends without a fault")
	})
	return l.Addr().String()
}

// withCertificate gives the listener a certificate of an authority made for the test.
func withCertificate(t *testing.T) (*standin.Authority, func(*Config, *Deps)) {
	t.Helper()
	authority, err := standin.NewAuthority()
	require.NoError(t, err)
	return authority, func(c *Config, _ *Deps) {
		c.Hostname = "mx.shop.example"
		c.Certificate, c.Key = certified(t, authority, c.Hostname)
	}
}

func certified(t *testing.T, authority *standin.Authority, host string) (certificate, key string) {
	t.Helper()
	c, k, err := authority.Certificate(host)
	require.NoError(t, err)
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	require.NoError(t, os.WriteFile(certificate, c, 0o600))
	require.NoError(t, os.WriteFile(key, k, 0o600))
	return certificate, key
}

const letterText = "From: Ada <ada@example.com>\r\nTo: help@shop.example\r\nSubject: Hello\r\nMessage-ID: <a@mail.example.com>\r\n\r\nA line.\r\n.A dot first.\r\n"

// dialled is a client that has said EHLO.
func dialled(t *testing.T, address string) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.Hello("mail.example.com"))
	return c
}

func send(c *smtp.Client, from, text string, to ...string) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, one := range to {
		if err := c.Rcpt(one); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(text)); err != nil {
		return err
	}
	return w.Close()
}

func code(err error) int {
	var answer *textproto.Error
	if errors.As(err, &answer) {
		return answer.Code
	}
	return 0
}

func TestTheListenerTakesMailUnderTLS(t *testing.T) {
	authority, change := withCertificate(t)
	in := &inlet{}
	a := made(t, change)
	c := dialled(t, listening(t, a, in))
	require.NoError(t, c.StartTLS(&tls.Config{ServerName: "mx.shop.example", RootCAs: authority.Pool()}), "its certificate proves its name")
	require.NoError(t, send(c, "ada@example.com", letterText, "Help@Shop.example"))
	require.NoError(t, c.Quit())

	events := in.of("help")
	require.Len(t, events, 1)
	assert.Equal(t, "A line.\n.A dot first.", events[0].Content.Text)
	assert.Equal(t, "ada@example.com", events[0].Contact.Value)
	assert.Equal(t, map[string]string{"helo": "mail.example.com", "ip": "127.0.0.1", "tls": "yes"}, events[0].Technical)

	t.Run("a renewed certificate is shown without a restart", func(t *testing.T) {
		certificate, key := certified(t, authority, "new.shop.example")
		for from, to := range map[string]string{certificate: a.cfg.Certificate, key: a.cfg.Key} {
			text, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(to, text, 0o600))
			require.NoError(t, os.Chtimes(to, time.Unix(1e9, 0), time.Unix(1e9, 0)))
		}
		shown, err := a.certificate.get(nil)
		require.NoError(t, err)
		assert.NoError(t, shown.Leaf.VerifyHostname("new.shop.example"))
	})
}

func TestAMailIsTheSameEventByEveryWay(t *testing.T) {
	in := &inlet{}
	a := made(t, nil)
	c := dialled(t, listening(t, a, in))
	require.NoError(t, send(c, "ada@example.com", letterText, "help@shop.example"))
	require.NoError(t, send(c, "ada@example.com", letterText, "help@shop.example"))
	events := in.of("help")
	require.Len(t, events, 2)
	assert.Equal(t, events[0].Key, events[1].Key)

	raw, err := a.Normalise(&channel.Request{Ref: "help", Header: map[string][]string{"Content-Type": {"message/rfc822"}}, Body: []byte(letterText)})
	require.NoError(t, err)
	assert.Equal(t, events[0].Key, raw.Events[0].Key)

	body := standin.PostmarkInbound("a@mail.example.com", "ada@example.com", "help@shop.example", "Hello", "A line.\n.A dot first.\n", nil)
	body = []byte(strings.Replace(string(body), `"Date":"Sat, 14 Mar 2026 15:00:00 +0000"`, `"Date":""`, 1))
	postmark, err := a.Normalise(&channel.Request{Ref: "help", Header: map[string][]string{"Content-Type": {"application/json"}}, Body: body})
	require.NoError(t, err)
	assert.Equal(t, events[0].Key, postmark.Events[0].Key)
	assert.Equal(t, events[0].Thread.Root, postmark.Events[0].Thread.Root)
}

func TestTheListenerRelaysNothingAndForgetsNothing(t *testing.T) {
	in := &inlet{failing: map[string]error{}}
	c := dialled(t, listening(t, made(t, nil), in))
	assert.Equal(t, 550, code(send(c, "ada@example.com", letterText, "nobody@shop.example")))
	require.NoError(t, c.Reset())
	assert.Equal(t, 550, code(send(c, "ada@example.com", letterText, "ada@example.com")), "it is no relay")
	require.NoError(t, c.Reset())
	assert.Equal(t, 553, code(send(c, "ada@example.com", letterText, `"no body"@shop.example`)))
	require.NoError(t, c.Reset())

	in.unsure = true
	assert.Equal(t, 451, code(send(c, "ada@example.com", letterText, "help@shop.example")), "nobody can tell whether it is known")
	in.unsure = false
	require.NoError(t, c.Reset())

	in.failing["sales"] = errors.New("CANARY not durable")
	err := send(c, "ada@example.com", letterText, "help@shop.example", "sales@shop.example")
	assert.Equal(t, 451, code(err), "one mailbox could not: it comes again for all")
	assert.NotContains(t, err.Error(), "CANARY")
	delete(in.failing, "sales")
	require.NoError(t, send(c, "ada@example.com", letterText, "help@shop.example", "sales@shop.example"))
	require.Len(t, in.of("help"), 2)
	assert.Equal(t, in.of("help")[0].Key, in.of("help")[1].Key, "who has it knows it")
	require.Len(t, in.of("sales"), 1)
	assert.NotEqual(t, in.of("help")[0].Key, in.of("sales")[0].Key, "each mailbox has ids of its own")

	assert.Equal(t, 554, code(send(c, "ada@example.com", "no header at all\r\n", "help@shop.example")))
	assert.Equal(t, 554, code(send(c, "", "Subject: from nobody\r\n\r\nx\r\n", "help@shop.example")))
	require.NoError(t, send(c, "ada@example.com", "Subject: no From\r\n\r\nx\r\n", "help@shop.example"))
	last := in.of("help")[2]
	assert.Equal(t, "ada@example.com", last.Author.Value, "the envelope tells who it is from")

	require.NoError(t, send(c, "", letterText, "help@shop.example"))
	assert.True(t, in.of("help")[3].Automated, "an empty return path is a machine's")
	require.NoError(t, send(c, "ada@example.com", letterText, "plus+tag@shop.example", "help+anything@shop.example"))
	assert.Len(t, in.of("plus"), 1, "a mailbox may have a tag of its own")
	assert.Len(t, in.of("help"), 5)
}

func TestTooLargeAMailIsRefused(t *testing.T) {
	in := &inlet{}
	address := listening(t, made(t, nil), in)
	c := dialled(t, address)
	ok, size := c.Extension("SIZE")
	assert.True(t, ok)
	assert.Equal(t, fmt.Sprint(35<<20), size)
	assert.Equal(t, 552, code(send(c, "ada@example.com", "Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 1022)+"\r\n", 36<<10), "help@shop.example")))
	assert.Empty(t, in.of("help"))
	require.NoError(t, send(c, "ada@example.com", "From: ada@example.com\r\n\r\n"+strings.Repeat("x", 200_000)+"\r\n", "help@shop.example"), "a line that is longer than it may be")
	content := in.of("help")[0].Content
	assert.Equal(t, maxText, len(content.Text))
	assert.Equal(t, maxFull, len(content.FullText))
	require.Len(t, content.Attachments, 1)
	assert.Equal(t, "message.eml", content.Attachments[0].Name, "what is too long for an event is kept whole")
	assert.Greater(t, content.Attachments[0].Size, int64(200_000))
	assert.Error(t, send(c, "ada@example.com", "From: ada@example.com\r\n\r\n"+strings.Repeat("x", 2*smtpLine)+"\r\n", "help@shop.example"), "but not without end")
	assert.Len(t, in.of("help"), 1)
	c = dialled(t, address)

	require.NoError(t, c.Mail("ada@example.com"))
	for range maxRecipients {
		require.NoError(t, c.Rcpt("help@shop.example"))
	}
	assert.Equal(t, 452, code(c.Rcpt("help@shop.example")))
}

func TestLMTPAnswersForEachRecipient(t *testing.T) {
	in := &inlet{failing: map[string]error{"sales": errors.New("not durable")}}
	address := listening(t, made(t, func(c *Config, _ *Deps) { c.LMTP = true }), in)
	c, err := textproto.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	_, _, err = c.ReadResponse(220)
	require.NoError(t, err)
	for _, step := range []struct {
		command string
		code    int
	}{
		{"LHLO mail.example.com", 250}, {"MAIL FROM:<ada@example.com>", 250}, {"RCPT TO:<help@shop.example>", 250}, {"RCPT TO:<nobody@shop.example>", 550},
		{"RCPT TO:<sales@shop.example>", 250}, {"DATA", 354},
	} {
		require.NoError(t, c.PrintfLine("%s", step.command))
		_, _, err := c.ReadResponse(step.code)
		require.NoError(t, err, step.command)
	}
	require.NoError(t, c.PrintfLine("%s.", letterText))
	_, _, err = c.ReadResponse(250)
	require.NoError(t, err)
	_, _, err = c.ReadResponse(451)
	require.NoError(t, err, "the one that could not be made durable comes again, alone")
	assert.Len(t, in.of("help"), 1)
}

func TestWithoutAnAddressNothingListens(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.NoError(t, made(t, nil).Listen(ctx, &inlet{}))
}

func TestATakenAddressEndsTheStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := *DefaultConfig()
	cfg.Address = l.Addr().String()
	_, err = New(cfg, Deps{})
	require.ErrorContains(t, err, "TRIBUTARY_EMAIL_SMTP_ADDRESS: listen tcp "+cfg.Address)
}

// TestSwaksDelivers has Debian's swaks deliver, which owes nothing to the libraries here.
func TestSwaksDelivers(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("with CI=true swaks is required")
		}
		t.Skip("NOT RUN with swaks: it is not installed (apt-get install swaks)")
	}
	authority, change := withCertificate(t)
	in := &inlet{}
	address := listening(t, made(t, change), in)
	dir := t.TempDir()
	ca, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "notes.txt")
	require.NoError(t, os.WriteFile(ca, authority.PEM(), 0o600))
	require.NoError(t, os.WriteFile(file, []byte("what was attached"), 0o600))
	deliver := func(to string) ([]byte, error) {
		return exec.CommandContext(t.Context(), swaks, "--server", address, "--tls", "--tls-verify", "--tls-ca-path", ca,
			"--ehlo", "mail.example.com", "--from", "ada@example.com", "--to", to, "--header", "Subject: From swaks", "--body", "Hello from swaks", "--attach", "@"+file).CombinedOutput()
	}
	said, err := deliver("help@shop.example")
	require.NoError(t, err, "%s", said)
	events := in.of("help")
	require.Len(t, events, 1)
	assert.Equal(t, "Hello from swaks", events[0].Content.Text)
	assert.Equal(t, "From swaks", events[0].Content.Subject)
	assert.Equal(t, "yes", events[0].Technical["tls"])
	require.Len(t, events[0].Content.Attachments, 1)
	assert.Equal(t, "notes.txt", events[0].Content.Attachments[0].Name)
	assert.Equal(t, "what was attached", string(events[0].Content.Attachments[0].Data))

	said, err = deliver("nobody@shop.example")
	assert.Error(t, err)
	assert.Contains(t, string(said), "550 5.1.1")
}
