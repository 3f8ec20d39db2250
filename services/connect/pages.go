package connect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/telemetry"
	"tributary.dev/services/connect/provider"
)

//go:embed pages/*
var pageFiles embed.FS

// pages are plain: no scripts, no files besides, nothing that tells another site where a browser came from.
type pages struct {
	templates *template.Template
	style     template.CSS
	policy    string
}

// page is what a template is given.
type page struct {
	Style template.CSS
	// Channel and Workspace by their names; Shop where there is one.
	Channel, Workspace, Shop string
	// Onward is where the browser goes next, if anywhere.
	Onward string
	// Fault says why the last try came to nothing; of the page "refused", why nothing was done.
	Fault     string
	FormToken string
	Accounts  []provider.Account
}

func newPages() (*pages, error) {
	style, err := pageFiles.ReadFile("pages/style.css")
	if err != nil {
		return nil, err
	}
	templates, err := template.ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	return &pages{
		templates: templates, style: template.CSS(style), //nolint:gosec // a file of ours
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	}, nil
}

func (p *pages) write(w http.ResponseWriter, status int, name string, content page) error {
	content.Style = p.style
	var buf bytes.Buffer
	if err := p.templates.ExecuteTemplate(&buf, name+".html", content); err != nil {
		return err
	}
	p.guard(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // the browser has gone; there is nobody to tell
	return nil
}

func (p *pages) guard(h http.Header) {
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Robots-Tag", "noindex")
}

// pageHandler shows an error as a page: why nothing was done, or, of faults of ours, that it may be tried again.
func (s *service) pageHandler(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		s.pages.guard(w.Header())
		err := h(w, r)
		if err == nil {
			return
		}
		var known *refusal
		var fault *provider.Fault
		p, status := page{Fault: "Something here does not work at the moment. Try again in a while."}, http.StatusServiceUnavailable
		switch {
		case errors.As(err, &known):
			p.Fault, status = known.text, known.status
		case errors.As(err, &fault):
			p.Fault, status = sentence(fault.Code), http.StatusBadGateway
		default:
			telemetry.From(ctx).Log.ErrorContext(ctx, "a page failed", "route", r.Pattern, "error", err)
		}
		if err := s.pages.write(w, status, "refused", p); err != nil {
			telemetry.From(ctx).Log.ErrorContext(ctx, "a page failed", "route", r.Pattern, "error", err)
		}
	})
}

// pageOf an authorisation names whose it is.
func (s *service) pageOf(ctx context.Context, r authorisationRow) (page, error) {
	p := page{Channel: titleOf(r.channel), Shop: r.shop}
	err := s.db.View(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT name FROM workspaces WHERE id = $1`, r.workspaceID).Scan(&p.Workspace)
	})
	return p, err
}

// returnTo tells the page that a browser goes on to which authorisation is done, and nothing else.
func returnTo(address, id string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	query := u.Query()
	query.Set("authorisation_id", id)
	u.RawQuery = query.Encode()
	return u.String(), nil
}
