package ingress

import (
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// publicURLs tells what a request's URL was as the provider saw it: some sign it.
type publicURLs struct {
	trusted []netip.Prefix
	public  *url.URL // nil: none configured
}

// newPublicURLs takes a valid Config.
func newPublicURLs(cfg Config) publicURLs {
	var p publicURLs
	for _, cidr := range cfg.TrustedProxies {
		p.trusted = append(p.trusted, netip.MustParsePrefix(cidr))
	}
	if cfg.PublicURL != "" {
		p.public, _ = url.Parse(cfg.PublicURL)
	}
	return p
}

// of gives scheme and host by a trusted proxy's word, else the configured ones, else the request's own.
// Path and query are the request's, behind the configured path.
func (p publicURLs) of(r *http.Request) *url.URL {
	u := *r.URL
	u.Scheme, u.Host = "http", r.Host
	if r.TLS != nil {
		u.Scheme = "https"
	}
	if p.public != nil {
		u.Scheme, u.Host = p.public.Scheme, p.public.Host
		if prefix := strings.TrimSuffix(p.public.Path, "/"); prefix != "" {
			u.Path, u.RawPath = path.Join(prefix, u.Path), ""
		}
	}
	if p.trusts(r.RemoteAddr) {
		if proto := first(r.Header.Get("X-Forwarded-Proto")); proto == "http" || proto == "https" {
			u.Scheme = proto
		}
		if host := first(r.Header.Get("X-Forwarded-Host")); host != "" {
			u.Host = host
		}
	}
	return &u
}

func (p publicURLs) trusts(remote string) bool {
	addr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, prefix := range p.trusted {
		if prefix.Contains(addr.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// first of a list: what the outermost proxy saw.
func first(list string) string {
	value, _, _ := strings.Cut(list, ",")
	return strings.ToLower(strings.TrimSpace(value))
}
