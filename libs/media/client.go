package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gabriel-vasile/mimetype"

	"tributary.dev/libs/channel"
)

// ClientConfig of a Client.
type ClientConfig struct {
	// MaxBytes of one file; 0 is 50 MiB.
	MaxBytes int64
	// Timeout of one file, from the first address asked to the last byte; 0 is 60 s.
	Timeout time.Duration
	// Allowed are addresses that may be asked beside the public ones: a provider's stand-in.
	Allowed []netip.Prefix
	// Resolver stands in for the system's in tests.
	Resolver *net.Resolver
}

// Client fetches files from public addresses only. Safe for concurrent use.
type Client struct {
	cfg       ClientConfig
	transport *http.Transport
}

const (
	//bound:limit a fetched attachment | {bytes} | it failed, as too large
	maxBytes = 50 << 20
	// longestFetch is from the first address asked to the last byte.
	longestFetch = time.Minute
	//bound:limit redirects while an attachment is fetched | {} | it failed
	maxRedirects = 5
	// sniffed is as much of a file as mimetype looks at.
	sniffed = 3072
)

// Failure is why there is no file. Reason is a word for AttachmentRef.failed; Transient ones may be tried
// again.
type Failure struct {
	Reason    string
	Transient bool
	err       error
}

func (f *Failure) Error() string {
	if f.err != nil {
		return "media: " + f.Reason + ": " + f.err.Error()
	}
	return "media: " + f.Reason
}

func (f *Failure) Unwrap() error { return f.err }

// Reasons of failures.
const (
	ReasonAddress     = "forbidden_address" // not a public address, or not http(s)
	ReasonTooLarge    = "too_large"
	ReasonGone        = "gone"         // 404, 410
	ReasonRefused     = "refused"      // any other answer that is final, 401 and 403 among them
	ReasonNotTheFile  = "not_the_file" // a page where something else was announced: a sign-in form, most often
	ReasonUnavailable = "unavailable"  // no answer, 5xx, 429, or not all of it
	ReasonTimeout     = "timeout"
)

var (
	errTooLarge  = &Failure{Reason: ReasonTooLarge}
	errDowngrade = errors.New("redirected from https to http")
)

// NewClient makes a Client.
func NewClient(cfg ClientConfig) *Client {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = maxBytes
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = longestFetch
	}
	//bound:timeout connecting, to fetch an attachment | {} | tried again
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: checkDialled(cfg.Allowed), Resolver: cfg.Resolver}
	return &Client{cfg: cfg, transport: &http.Transport{
		Proxy:       nil, // a proxy would resolve names by itself
		DialContext: dialer.DialContext,
		//bound:timeout the TLS handshake, to fetch an attachment | {} | tried again
		TLSHandshakeTimeout: 10 * time.Second,
		//bound:timeout the beginning of an answer, to fetch an attachment | {} | tried again
		ResponseHeaderTimeout: 20 * time.Second,
		//bound:limit an answer's headers | {bytes} | the attachment failed
		MaxResponseHeaderBytes: 64 << 10,
		//bound:pool idle connections to a host that attachments come from | {} | more are closed
		MaxIdleConnsPerHost: 2,
		//bound:pool idle connections that attachments came over | {} | more are closed
		MaxIdleConns: 64,
		//bound:timeout an idle connection that attachments came over | {} | it is closed
		IdleConnTimeout:    30 * time.Second,
		ForceAttemptHTTP2:  true,
		DisableCompression: true, // what is stored is what was sent
	}}
}

// File is being fetched. Body fails with a *Failure once the file turns out larger or slower than may be,
// or is cut short; only io.EOF says that it is whole.
type File struct {
	Body io.ReadCloser
	// ContentType as sniffed; what the server says counts only where the bytes say nothing.
	ContentType string
}

// Fetch asks for a file. announced is the content type that the event promised, or empty. Every error is a
// *Failure, or ctx's own.
func (c *Client) Fetch(ctx context.Context, req channel.MediaRequest, announced string) (*File, error) {
	//bound:timeout fetching an attachment, to its last byte | {longestFetch} | tried again
	bounded, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	file, err := c.fetch(bounded, cancel, req, announced)
	if err != nil {
		defer cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, failure(err)
	}
	return file, nil
}

func (c *Client) fetch(ctx context.Context, cancel context.CancelFunc, req channel.MediaRequest, announced string) (*File, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, req.URL, nil)
	if err != nil || !fetchable(r.URL) {
		return nil, &Failure{Reason: ReasonAddress}
	}
	authorise(r, req)
	//bound:exempt the context bounds it, to the last byte
	client := http.Client{Transport: c.transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return &Failure{Reason: ReasonRefused}
		case !fetchable(next.URL):
			return &Failure{Reason: ReasonAddress}
		case via[len(via)-1].URL.Scheme == "https" && next.URL.Scheme == "http":
			return &Failure{Reason: ReasonAddress, err: errDowngrade}
		}
		next.Header = http.Header{}
		authorise(next, req)
		return nil
	}}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if err := answered(resp, c.cfg.MaxBytes); err != nil {
		resp.Body.Close()
		return nil, err
	}
	body := &body{ctx: ctx, left: c.cfg.MaxBytes, from: resp.Body, cancel: cancel}
	body.r = bufio.NewReaderSize(readerFunc(body.read), sniffed)
	start, err := body.r.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		resp.Body.Close()
		return nil, err
	}
	contentType := sniff(start, resp.Header.Get("Content-Type"))
	if isPage(contentType) && announced != "" && !isPage(announced) {
		resp.Body.Close()
		return nil, &Failure{Reason: ReasonNotTheFile}
	}
	return &File{Body: body, ContentType: contentType}, nil
}

func fetchable(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}

// authorise gives a request the headers that its host may see, and no others.
func authorise(r *http.Request, req channel.MediaRequest) {
	host := strings.ToLower(r.URL.Hostname())
	allowed := slices.ContainsFunc(req.HeaderHosts, func(h string) bool {
		return strings.EqualFold(h, host) || strings.EqualFold(h, r.URL.Host)
	})
	if !allowed {
		return
	}
	for name, values := range req.Header {
		r.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
	}
}

func answered(resp *http.Response, maxBytes int64) error {
	switch s := resp.StatusCode; {
	case s == http.StatusOK && resp.ContentLength > maxBytes:
		return errTooLarge
	case s == http.StatusOK:
		return nil
	case s == http.StatusNotFound || s == http.StatusGone:
		return &Failure{Reason: ReasonGone}
	case s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout:
		return &Failure{Reason: ReasonUnavailable, Transient: true}
	}
	return &Failure{Reason: ReasonRefused}
}

// failure says of any error what became of the file. Texts of others are left out: they quote addresses.
func failure(err error) error {
	var f *Failure
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, ErrForbiddenAddress):
		return &Failure{Reason: ReasonAddress, err: ErrForbiddenAddress}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &Failure{Reason: ReasonTimeout, Transient: true}
	}
	return &Failure{Reason: ReasonUnavailable, Transient: true, err: fmt.Errorf("%T", err)}
}

func sniff(start []byte, said string) string {
	found := mimetype.Detect(start).String()
	if found == "application/octet-stream" || strings.HasPrefix(found, "text/plain") {
		if media, _, err := mime.ParseMediaType(said); err == nil && !isPage(media) {
			found = media
		}
	}
	return found
}

func isPage(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "text/html" || media == "application/xhtml+xml"
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// body bounds what is read in bytes and, by its context, in time.
type body struct {
	ctx    context.Context
	cancel context.CancelFunc
	from   io.ReadCloser
	left   int64
	r      *bufio.Reader
}

func (b *body) Read(p []byte) (int, error) { return b.r.Read(p) }

func (b *body) read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return 0, errTooLarge
	case err == nil || errors.Is(err, io.EOF):
		return n, err
	case errors.Is(b.ctx.Err(), context.Canceled):
		return n, b.ctx.Err()
	}
	return n, failure(err)
}

func (b *body) Close() error {
	b.cancel()
	return b.from.Close()
}
