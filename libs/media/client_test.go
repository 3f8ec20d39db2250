package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"tributary.dev/libs/channel"
)

var png = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), make([]byte, 4096)...)

// loopback allows one address of the inside, so that a test server can stand for the public internet
// while the others of 127.0.0.0/8 stay forbidden.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

func fetch(t *testing.T, c *Client, req channel.MediaRequest, announced string) ([]byte, string, error) {
	t.Helper()
	f, err := c.Fetch(t.Context(), req, announced)
	if err != nil {
		return nil, "", err
	}
	defer f.Body.Close()
	b, err := io.ReadAll(f.Body)
	return b, f.ContentType, err
}

func requireReason(t *testing.T, err error, reason string) {
	t.Helper()
	var f *Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, reason, f.Reason)
}

func TestAFileIsFetchedAndSniffed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(png)
	}))
	defer srv.Close()
	b, contentType, err := fetch(t, NewClient(ClientConfig{Allowed: loopback}), channel.MediaRequest{URL: srv.URL}, "")
	require.NoError(t, err)
	require.True(t, bytes.Equal(png, b))
	require.Equal(t, "image/png", contentType)
}

func TestAnAddressOfTheInsideIsRefused(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	for name, address := range map[string]string{
		"by number":        "http://127.0.0.1:" + port,
		"by name":          "http://localhost:" + port,
		"mapped into IPv6": "http://[::ffff:127.0.0.1]:" + port,
		"metadata":         "http://169.254.169.254/latest/meta-data/",
		"another scheme":   "file:///etc/passwd",
		"with a user":      "http://a:b@127.0.0.1:" + port,
		"no host":          "http:///x",
	} {
		t.Run(name, func(t *testing.T) {
			// The resolver knows no name but localhost, so that no test asks the network.
			c := NewClient(ClientConfig{Resolver: resolverOf(t, "127.0.0.1")})
			_, _, err := fetch(t, c, channel.MediaRequest{URL: address}, "")
			requireReason(t, err, ReasonAddress)
		})
	}
	require.Zero(t, asked.Load())
}

func TestANameThatResolvesToTheInsideIsRefused(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(png) }))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	require.NoError(t, err)
	address := "http://files.example:" + port

	t.Run("at once", func(t *testing.T) {
		c := NewClient(ClientConfig{Resolver: resolverOf(t, "10.0.0.7")})
		_, _, err := fetch(t, c, channel.MediaRequest{URL: address}, "")
		requireReason(t, err, ReasonAddress)
	})
	t.Run("at the second look-up (rebinding)", func(t *testing.T) {
		c := NewClient(ClientConfig{Allowed: loopback, Resolver: resolverOf(t, "127.0.0.1", "127.0.0.2")})
		c.transport.DisableKeepAlives = true
		_, _, err := fetch(t, c, channel.MediaRequest{URL: address}, "")
		require.NoError(t, err)
		_, _, err = fetch(t, c, channel.MediaRequest{URL: address}, "")
		requireReason(t, err, ReasonAddress)
	})
}

func TestRedirects(t *testing.T) {
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	mux.HandleFunc("/inside", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.2:1/x", http.StatusFound)
	})
	mux.HandleFunc("/scheme", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	c := NewClient(ClientConfig{Allowed: loopback})
	for path, reason := range map[string]string{"/inside": ReasonAddress, "/scheme": ReasonAddress, "/loop": ReasonRefused} {
		t.Run(path, func(t *testing.T) {
			_, _, err := fetch(t, c, channel.MediaRequest{URL: srv.URL + path}, "")
			requireReason(t, err, reason)
		})
	}
	t.Run("from https to http", func(t *testing.T) {
		secure := httptest.NewTLSServer(http.RedirectHandler(srv.URL+"/plain", http.StatusFound))
		defer secure.Close()
		c := NewClient(ClientConfig{Allowed: loopback})
		c.transport.TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
		_, _, err := fetch(t, c, channel.MediaRequest{URL: secure.URL}, "")
		requireReason(t, err, ReasonAddress)
	})
}

func TestCredentialsGoToTheirHostsOnly(t *testing.T) {
	var seen atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization") + r.Header.Get("X-Token"))
		w.Write(png)
	}))
	defer other.Close()
	var first atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first.Store(r.Header.Get("Authorization"))
		http.Redirect(w, r, other.URL, http.StatusFound)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	req := channel.MediaRequest{URL: srv.URL, Header: http.Header{"Authorization": {"Bearer x"}, "X-Token": {"y"}}, HeaderHosts: []string{u.Host}}
	_, _, err = fetch(t, NewClient(ClientConfig{Allowed: loopback}), req, "")
	require.NoError(t, err)
	require.Equal(t, "Bearer x", first.Load())
	require.Empty(t, seen.Load())
}

func TestSizeIsBounded(t *testing.T) {
	for name, declared := range map[string]bool{"announced": true, "found out": false} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if declared {
					w.Header().Set("Content-Length", strconv.Itoa(1<<20))
				}
				w.Write(make([]byte, 1<<20))
			}))
			defer srv.Close()
			_, _, err := fetch(t, NewClient(ClientConfig{Allowed: loopback, MaxBytes: 1<<20 - 1}), channel.MediaRequest{URL: srv.URL}, "")
			requireReason(t, err, ReasonTooLarge)
		})
	}
	t.Run("exactly as large as may be", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }))
		defer srv.Close()
		b, _, err := fetch(t, NewClient(ClientConfig{Allowed: loopback, MaxBytes: 1 << 20}), channel.MediaRequest{URL: srv.URL}, "")
		require.NoError(t, err)
		require.Len(t, b, 1<<20)
	})
}

func TestTimeIsBounded(t *testing.T) {
	for name, begins := range map[string]bool{"no answer": false, "an answer without end": true} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if begins {
					w.Write(png)
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
			}))
			defer srv.Close()
			_, _, err := fetch(t, NewClient(ClientConfig{Allowed: loopback, Timeout: 50 * time.Millisecond}), channel.MediaRequest{URL: srv.URL}, "")
			requireReason(t, err, ReasonTimeout)
		})
	}
	t.Run("the caller's end is not a failure of the file", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() }))
		defer srv.Close()
		_, err := NewClient(ClientConfig{Allowed: loopback}).Fetch(ctx, channel.MediaRequest{URL: srv.URL}, "")
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestAnswersThatAreNoFile(t *testing.T) {
	for _, c := range []struct {
		status    int
		body      string
		announced string
		reason    string
		transient bool
	}{
		{404, "", "", ReasonGone, false},
		{410, "", "", ReasonGone, false},
		{401, "", "", ReasonRefused, false},
		{403, "", "", ReasonRefused, false},
		{429, "", "", ReasonUnavailable, true},
		{503, "", "", ReasonUnavailable, true},
		{200, "<html><body>Sign in</body></html>", "image/png", ReasonNotTheFile, false},
	} {
		t.Run(strconv.Itoa(c.status), func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			}))
			defer srv.Close()
			_, _, err := fetch(t, NewClient(ClientConfig{Allowed: loopback}), channel.MediaRequest{URL: srv.URL}, c.announced)
			requireReason(t, err, c.reason)
			var f *Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, c.transient, f.Transient)
		})
	}
	t.Run("cut short", func(t *testing.T) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(png)
		}))
		defer srv.Close()
		_, _, err := fetch(t, NewClient(ClientConfig{Allowed: loopback}), channel.MediaRequest{URL: srv.URL}, "")
		requireReason(t, err, ReasonUnavailable)
	})
}

func TestFailuresTellNoAddress(t *testing.T) {
	c := NewClient(ClientConfig{Resolver: resolverOf(t)})
	_, _, err := fetch(t, c, channel.MediaRequest{URL: "https://canary.example/canary-file"}, "")
	require.Error(t, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		require.False(t, strings.Contains(e.Error(), "canary"), "%v", e)
	}
}

// resolverOf answers each look-up of an IPv4 address with the next of addrs (the last one for ever), and
// has no other records.
func resolverOf(t *testing.T, addrs ...string) *net.Resolver {
	t.Helper()
	var next atomic.Int64
	answer := func(query []byte) []byte {
		var p dnsmessage.Parser
		h, err := p.Start(query)
		if err != nil {
			return nil
		}
		q, err := p.Question()
		if err != nil {
			return nil
		}
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true},
			Questions: []dnsmessage.Question{q},
		}
		switch {
		case len(addrs) == 0:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			i := min(int(next.Add(1))-1, len(addrs)-1)
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(addrs[i]).As4()},
			}}
		}
		packed, err := m.Pack()
		if err != nil {
			return nil
		}
		return packed
	}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for { // DNS over a stream: each message with its length in front
				var size [2]byte
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				reply := answer(query)
				if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}}
}
