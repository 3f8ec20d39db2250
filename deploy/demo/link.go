package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

var (
	formAction = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"`)
	formField  = regexp.MustCompile(`<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"`)
	hyperlink  = regexp.MustCompile(`<a [^>]*href="([^"]*)"`)
)

// link connects a Slack workspace as its owner would, by a browser: from the link that the API gave, over Slack's own page,
// and back. Nobody copies a token.
func (s *story) link(ctx context.Context) error {
	const clientID, clientSecret = "1.2", "demo-client-secret"
	s.slack.OAuth.Configure(func(c *standin.SlackOAuthConfig) { c.ClientID, c.ClientSecret = clientID, clientSecret })
	app, err := s.api.Call(ctx, http.MethodPost, "/v1/apps", mesh.Object{
		"channel": "slack", "name": "linked", "client_id": clientID, "external_id": "A1",
		"secrets": mesh.Object{"signing_secret": s.slackSecret, "client_secret": clientSecret},
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	asked, err := s.api.Call(ctx, http.MethodPost, "/v1/connections/authorisations", mesh.Object{"channel": "slack", "app_id": app.Text("id")}, http.StatusCreated)
	if err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	browser := http.Client{Jar: jar, Timeout: 10 * time.Second}
	visit := func(method, address string, form url.Values) (page string, at *url.URL, err error) {
		request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
		if err != nil {
			return "", nil, err
		}
		if method == http.MethodPost {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Origin", s.mesh.URL)
		}
		answer, err := browser.Do(request)
		if err != nil {
			return "", nil, err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("a page answers %s", answer.Status)
		}
		return string(body), answer.Request.URL, err
	}
	page, at, err := visit(http.MethodGet, asked.Text("url"), nil)
	if err != nil {
		return err
	}
	fields := url.Values{}
	for _, f := range formField.FindAllStringSubmatch(page, -1) {
		fields.Set(html.UnescapeString(f[1]), html.UnescapeString(f[2]))
	}
	to := at
	if action := formAction.FindStringSubmatch(page); action != nil {
		if to, err = at.Parse(html.UnescapeString(action[1])); err != nil {
			return err
		}
	}
	if page, at, err = visit(http.MethodPost, to.String(), fields); err != nil {
		return err
	}
	// Out to Slack's page, and by its "Allow" back.
	for _, away := range []bool{true, false} {
		on := hyperlink.FindStringSubmatch(page)
		if on == nil {
			return fmt.Errorf("a page of %s leads nowhere", at.Host)
		}
		if page, at, err = visit(http.MethodGet, html.UnescapeString(on[1]), nil); err != nil {
			return err
		}
		if strings.Contains(s.slack.URL, at.Host) != away {
			return fmt.Errorf("the link leads to %s", at.Host)
		}
	}
	state, err := s.api.Call(ctx, http.MethodGet, "/v1/connections/authorisations/"+asked.Text("id"), nil, http.StatusOK)
	if err != nil || state.Text("status") != "done" || !strings.Contains(page, "is connected") {
		return errors.Join(err, fmt.Errorf("the link ended as %v", state))
	}
	c, err := s.api.Call(ctx, http.MethodGet, "/v1/connections/"+state.Text("connection_id"), nil, http.StatusOK)
	if err != nil || c.Text("status") != "active" {
		return errors.Join(err, fmt.Errorf("the connection is %v", c))
	}
	say("%s, %s: connected over Slack's own page by its owner's browser", c.Text("name"), c.Text("external_id"))
	if _, err := s.api.Call(ctx, http.MethodDelete, "/v1/connections/"+c.Text("id"), nil, http.StatusNoContent); err != nil {
		return err
	}
	if err := mesh.Eventually(ctx, 15*time.Second, func() error {
		if s.slack.OAuth.Calls("auth.revoke") == 0 {
			return errors.New("Slack was not told that the token is given back")
		}
		return nil
	}); err != nil {
		return err
	}
	say("and disconnected: its token is revoked at Slack")
	return nil
}
