package providers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel/standin"
)

func TestALongLetterIsAMail(t *testing.T) {
	p, err := startSMTP("127.0.0.1:0", &Host{})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	now := time.Now()
	first := p.(Correspondent).SaysAtLength(1, 1, "Where is it? Müller & Söhne = us", now)
	require.InDelta(t, 50_000, len(first.Body), 2_500)
	l, err := standin.SMTPMail{Data: first.Body}.Letter()
	require.NoError(t, err)
	require.Contains(t, l.Text, "Where is it? Müller & Söhne = us\n\nOn Thu, Mar 27, 2026")
	require.Equal(t, "Person 1 <person-1@mail.example>", l.Header.Get("From"))
	require.Equal(t, standin.RawMailHeader(p.Secret(), first.Body, now), first.Header)
	second := p.(Correspondent).SaysAtLength(1, 2, "Where is it? Müller & Söhne = us", now)
	require.Len(t, second.Body, len(first.Body))
	require.NotEqual(t, first.Body, second.Body)
}

func BenchmarkLongLetter(b *testing.B) {
	p, err := startSMTP("127.0.0.1:0", &Host{})
	require.NoError(b, err)
	defer func() { require.NoError(b, p.Close()) }()
	for n := 0; b.Loop(); n++ {
		p.(Correspondent).SaysAtLength(n%1000, n, "Where is it?", time.Now())
	}
}
