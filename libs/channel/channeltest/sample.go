package channeltest

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/channel"
)

// sample is a request as the provider sent it, without its signature.
type sample struct {
	name, file string
	method     string
	target     string
	header     http.Header
	body       []byte
}

// folder of the samples and of what is made of them.
func (k Kit) folder() string {
	if k.Samples == "" {
		return "testdata"
	}
	return k.Samples
}

func (k Kit) samples(t testing.TB) []sample {
	dir := k.folder()
	files, err := filepath.Glob(filepath.Join(dir, "*.http"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no sample requests in %s", dir)
	var samples []sample
	for _, file := range files {
		samples = append(samples, readSample(t, file))
	}
	require.True(t, slices.ContainsFunc(samples, func(s sample) bool { return s.method == http.MethodPost }), "no sample is a POST")
	return samples
}

func readSample(t testing.TB, file string) sample {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	head, body, _ := bytes.Cut(text, []byte("\n\n"))
	line, headers, _ := strings.Cut(string(head), "\n")
	method, target, ok := strings.Cut(strings.TrimSpace(line), " ")
	require.True(t, ok, "%s: the first line is a method and a path", file)
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(headers + "\n\n"))).ReadMIMEHeader()
	require.NoError(t, err, "%s: headers", file)
	return sample{
		name:   strings.TrimSuffix(filepath.Base(file), ".http"),
		file:   file,
		method: method,
		target: target,
		header: http.Header(header),
		body:   bytes.TrimSuffix(body, []byte("\n")),
	}
}

func (s sample) golden() string { return strings.TrimSuffix(s.file, ".http") + ".golden.json" }

func (s sample) with(body []byte) sample {
	s.body = body
	return s
}

// request is the sample as ingress hands it to the adapter.
func (k Kit) request(s sample) *channel.Request {
	u, err := url.Parse("https://mesh.example" + s.target)
	if err != nil {
		panic("channeltest: " + s.file + " names no path")
	}
	return &channel.Request{
		Method:     s.method,
		Ref:        path.Base(u.Path),
		URL:        u,
		Header:     s.header.Clone(),
		Body:       bytes.Clone(s.body),
		ReceivedAt: ReceivedAt,
		AppID:      k.AppID,
		Settings:   k.Settings,
	}
}

// signed is the sample as a request, signed.
func (k Kit) signed(s sample, secret string) *channel.Request {
	r := k.request(s)
	k.Sign(r, secret)
	return r
}
