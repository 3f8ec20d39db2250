package channeltest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/media"
)

// StandIn is what stands in for a provider, with the adapter that calls it. What is left out is not tried.
type StandIn struct {
	Adapter channel.Adapter
	// Out makes a message on its way, in a conversation that may be answered, over a connection whose credentials the
	// stand-in takes. The kit gives it its text or file.
	Out func() *channel.Outgoing
	// Took is what the stand-in has taken so far, in order.
	Took func() []Taken
	// Fail sets the fault of later calls, as standin's own does.
	Fail func(standin.Fault)
	// Revoked are credentials that the stand-in refuses.
	Revoked map[string]string
	// Definite: what the provider refuses it surely did not take, and for how long to wait it can't say, as with SMTP (RFC 5321,
	// 4.2.1).
	Definite bool
	// NoFiles: the channel sends none.
	NoFiles bool
	// Answerable is the id at the provider of a message that a reply may name, of a mail its Message-ID; empty where
	// replies name none.
	Answerable string
	// Media is a file that an event named, and File what it holds.
	Media channel.MediaRef
	File  []byte
	// Person is somebody of whom the stand-in has a name.
	Person *channel.Identity
	Name   string
}

// Taken is a message that the stand-in took: a text, a file or where the file lies.
type Taken struct {
	Text, FileName, FileURL, ReplyTo string
	File                             []byte
}

func withoutSending(kit Kit, _ []sample) string {
	if _, ok := kit.New().(channel.Sender); !ok {
		return "no channel.Sender"
	}
	if kit.StandIn == nil {
		return "Kit.StandIn is not given"
	}
	return ""
}

func withoutFetching(kit Kit, _ []sample) string {
	if _, ok := kit.New().(channel.Fetcher); !ok {
		return "no channel.Fetcher"
	}
	if kit.StandIn == nil {
		return "Kit.StandIn is not given"
	}
	return ""
}

const hello = "hello, this is the kit"

func sends(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	out := p.Out()
	out.Text = hello
	got, err := p.send(t, out)
	require.NoError(t, err)
	took := p.Took()
	require.Len(t, took, 1, "one call, one message")
	assert.Equal(t, hello, took[0].Text)
	assert.NotEmpty(t, got.ExternalID, "the id by which the provider knows it")
	assert.GreaterOrEqual(t, got.Order, int64(0), "the provider's time, where its answer tells it")
}

// sendsAsDeclared: a connection that was made of what channel.yaml asks for has what it takes.
func sendsAsDeclared(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	out := p.Out()
	declared := map[string]string{}
	for _, name := range kit.Features.For(out.Connection.Settings).Credentials {
		require.NotEmpty(t, out.Connection.Credentials[name], "the stand-in's connection has the credential %s", name)
		declared[name] = out.Connection.Credentials[name]
	}
	require.NotEmpty(t, declared, "channel.yaml declares no credentials")
	out.Connection.Credentials, out.Text = declared, hello
	_, err := p.send(t, out)
	require.NoError(t, err)
}

// sendsLongest: the mesh parts a text at text_limit, so every part that it makes must be taken.
func sendsLongest(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	features := kit.Features.For(p.Out().Connection.Settings)
	text := strings.Repeat("a word ", features.TextLimit/7+10) + strings.Repeat("😀", features.TextLimit)
	parts := channel.Split(text, features.TextLimit, features.TextUnit)
	require.Greater(t, len(parts), 2)
	for _, part := range parts {
		out := p.Out()
		out.Text = part
		_, err := p.send(t, out)
		require.NoError(t, err, "a part of %d %s", channel.Length(part, features.TextUnit), features.TextUnit)
	}
	var took strings.Builder
	for _, m := range p.Took() {
		took.WriteString(m.Text)
	}
	assert.Equal(t, text, took.String(), "the parts, in order, are the text")

	empty := p.Out()
	assert.Error(t, p.Adapter.(channel.Sender).Check(empty), "nothing to say is refused before any call")
}

func sendsFile(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	if p.NoFiles {
		t.Skip("the channel sends no files")
	}
	const content = "%PDF-1.4 the kit's file"
	out := p.Out()
	file := &channel.OutgoingAttachment{
		Name: "kit.pdf", ContentType: "application/pdf", Size: int64(len(content)), URL: "https://mesh.example/media/kit?signature=s",
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
	if kit.Features.Whole {
		out.Text, out.Attachments = hello, []*channel.OutgoingAttachment{file}
	} else {
		out.Attachment = file
	}
	_, err := p.send(t, out)
	require.NoError(t, err)
	took := p.Took()
	require.Len(t, took, 1)
	assert.True(t, took[0].FileURL == file.URL || string(took[0].File) == content, "the file, or where it lies")
	if took[0].File != nil {
		assert.Equal(t, "kit.pdf", took[0].FileName)
	}
	assert.Equal(t, out.Text, took[0].Text, "the text that goes with it, where it goes in one call")
}

func sendsReply(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	if p.Answerable == "" {
		t.Skip("the channel's replies name no message")
	}
	out := p.Out()
	out.Text, out.ReplyTo, out.References = hello, p.Answerable, []string{p.Answerable}
	_, err := p.send(t, out)
	require.NoError(t, err)
	require.Len(t, p.Took(), 1)
	assert.Equal(t, p.Answerable, p.Took()[0].ReplyTo)
}

// sendsUnauthorised: only what the provider says of the credentials parks a connection.
func sendsUnauthorised(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	out := p.Out()
	out.Text, out.Connection.Credentials = hello, p.Revoked
	_, err := p.send(t, out)
	e := refused(t, err)
	assert.Equal(t, channel.ClassReauthorise, e.Class)
	assert.NotEmpty(t, e.Sentence, "a member is told what to do")
	assert.Empty(t, p.Took())
}

func sendsTooFast(t *testing.T, kit Kit, _ []sample) {
	const pause = 7 * time.Second
	p := kit.StandIn(t)
	p.Fail(func(int, string) standin.Failure {
		return standin.Failure{Refuse: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {strconv.Itoa(int(pause.Seconds()))}}}
	})
	out := p.Out()
	out.Text = hello
	_, err := p.send(t, out)
	e := refused(t, err)
	assert.Equal(t, channel.ClassRetry, e.Class)
	assert.True(t, e.NotTaken, "the provider says that it did not take it")
	if !p.Definite {
		assert.Equal(t, pause, e.RetryAfter)
	}
	p.Fail(nil)
	_, err = p.send(t, out)
	require.NoError(t, err)
}

func sendsToBroken(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	p.Fail(func(int, string) standin.Failure { return standin.Failure{Refuse: http.StatusServiceUnavailable} })
	out := p.Out()
	out.Text = hello
	_, err := p.send(t, out)
	e := refused(t, err)
	assert.Equal(t, channel.ClassRetry, e.Class, "not a person's fault, and none of the credentials'")
	assert.Equal(t, p.Definite, e.NotTaken, "what a broken server did before it failed nobody knows, unless its answer says it")
}

// sendsToSilence: a second message would be worse than one whose outcome nobody knows.
func sendsToSilence(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	p.Fail(func(int, string) standin.Failure { return standin.Failure{HangUp: true} })
	out := p.Out()
	out.Text = hello
	_, err := p.send(t, out)
	e := refused(t, err)
	assert.Equal(t, channel.ClassRetry, e.Class)
	assert.False(t, e.NotTaken)
	assert.Len(t, p.Took(), 1)
}

// locator is a channel that must ask its provider where a file lies.
type locator interface {
	Locate(ctx context.Context, conn *channel.Connection, ref channel.MediaRef) (channel.MediaRef, error)
}

func fetchesFile(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	if p.File == nil {
		t.Skip("the stand-in has no file")
	}
	conn, at := p.Out().Connection, p.Media
	if locator, ok := p.Adapter.(locator); ok && at.URL == "" {
		var err error
		at, err = locator.Locate(t.Context(), conn, at)
		require.NoError(t, err)
	}
	request, err := p.Adapter.(channel.Fetcher).Media(conn, at)
	require.NoError(t, err)
	client := media.NewClient(media.ClientConfig{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	file, err := client.Fetch(t.Context(), request, p.Media.ContentType)
	require.NoError(t, err)
	defer file.Body.Close()
	got, err := io.ReadAll(file.Body)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(p.File, got), "the file as it is")
	if len(request.Header) > 0 {
		assert.NotEmpty(t, request.HeaderHosts, "credentials go to named hosts only")
	}
	elsewhere := p.Media
	elsewhere.URL = "https://elsewhere.example/a.jpg"
	if request, err = p.Adapter.(channel.Fetcher).Media(conn, elsewhere); err == nil {
		asked := strings.Join(append(request.HeaderHosts, request.URL), " ")
		for name, credential := range conn.Credentials {
			assert.NotContains(t, asked, credential, "%s goes nowhere but to the provider", name)
		}
		assert.NotContains(t, request.HeaderHosts, "elsewhere.example")
	}
}

func fetchesProfile(t *testing.T, kit Kit, _ []sample) {
	p := kit.StandIn(t)
	if p.Person == nil {
		t.Skip("the provider tells nothing of persons who are asked for")
	}
	profile, ok, err := p.Adapter.(channel.Fetcher).Profile(t.Context(), p.Out().Connection, *p.Person)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, p.Name, profile.Name)
}

// send as egress does, with a deadline. What an error tells is no text, no address and no credential.
func (p StandIn) send(t *testing.T, out *channel.Outgoing) (channel.Sent, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	sender := p.Adapter.(channel.Sender)
	if err := sender.Check(out); err != nil {
		return channel.Sent{}, err
	}
	assert.GreaterOrEqual(t, sender.Pace(out).Every, time.Duration(0))
	got, err := sender.Send(ctx, out)
	if err != nil {
		for name, secret := range out.Connection.Credentials {
			assert.NotContains(t, err.Error(), secret, "the error tells the credential %s", name)
		}
		assert.NotContains(t, err.Error(), hello, "the error tells the text")
		if out.To != "" {
			assert.NotContains(t, err.Error(), out.To, "the error tells the address")
		}
	}
	return got, err
}

func refused(t *testing.T, err error) *channel.Error {
	t.Helper()
	var e *channel.Error
	require.ErrorAs(t, err, &e, "what a provider says is mapped")
	assert.NotEmpty(t, e.Code)
	return e
}
