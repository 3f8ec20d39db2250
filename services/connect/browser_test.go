package connect

import (
	"bytes"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tributary.dev/libs/bus/bustest"
	"tributary.dev/libs/channel/standin"
	"tributary.dev/libs/sqldb"
	"tributary.dev/libs/sqldb/sqltest"
	"tributary.dev/libs/telemetry"
)

// owner is an account's owner at a browser: the cookies of a jar, and the page that it shows.
type owner struct {
	h       *house
	cookies map[string]string
	*httptest.ResponseRecorder
}

func (h *house) browser() *owner { return &owner{h: h, cookies: map[string]string{}} }

const publicURL = "http://mesh.example"

// open asks the mesh for an address, follows where it sends to within itself, and keeps cookies.
func (o *owner) open(address string) *owner {
	o.h.Helper()
	return o.ask(httptest.NewRequest(http.MethodGet, strings.TrimPrefix(address, publicURL), nil))
}

// submit sends the form of the page that is shown, with further fields.
func (o *owner) submit(address string, fields ...string) *owner {
	o.h.Helper()
	form := url.Values{"form": {o.find(`name="form" value="([^"]*)"`)}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return o.post(address, form)
}

func (o *owner) post(address string, form url.Values) *owner {
	o.h.Helper()
	r := httptest.NewRequest(http.MethodPost, strings.TrimPrefix(address, publicURL), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return o.ask(r)
}

func (o *owner) ask(r *http.Request) *owner {
	o.h.Helper()
	for name, value := range o.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	o.ResponseRecorder = httptest.NewRecorder()
	o.h.mux.ServeHTTP(o, r)
	for _, c := range o.Result().Cookies() {
		require.True(o.h, c.HttpOnly)
		require.Equal(o.h, http.SameSiteLaxMode, c.SameSite)
		o.cookies[c.Name] = c.Value
	}
	require.Equal(o.h, "no-store", o.Header().Get("Cache-Control"))
	require.Equal(o.h, "no-referrer", o.Header().Get("Referrer-Policy"))
	require.Contains(o.h, o.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.Contains(o.h, o.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
	require.NotContains(o.h, o.Body.String()+o.Header().Get("Location"), "canary", "no page and no address has a secret")
	if location := o.Header().Get("Location"); location != "" {
		require.True(o.h, strings.HasPrefix(location, "/connect/"), location)
		return o.open(location)
	}
	require.Contains(o.h, o.Body.String(), `<html lang="en">`)
	return o
}

func (o *owner) find(pattern string) string {
	o.h.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(o.Body.String())
	require.NotNil(o.h, found, "%s in %s", pattern, o.Body)
	return html.UnescapeString(found[1])
}

func (o *owner) shows(status int, words string) *owner {
	o.h.Helper()
	require.Equal(o.h, status, o.Code, o.Body.String())
	require.Contains(o.h, o.Body.String(), words)
	return o
}

// leave goes from an authorisation's first page to the provider.
func (o *owner) leave(link string) (onward string) {
	o.h.Helper()
	o.open(link).shows(http.StatusOK, "Continue to ").submit(link).shows(http.StatusOK, "You are taken to ")
	return o.find(`<a href="([^"]*)"`)
}

// answer is what the provider's page sends the browser back with: the link of this id.
func (h *house) answer(onward, id string) string {
	h.Helper()
	resp, err := http.Get(onward) //nolint:gosec // a stand-in
	require.NoError(h, err)
	defer func() { require.NoError(h, resp.Body.Close()) }()
	var page bytes.Buffer
	_, err = page.ReadFrom(resp.Body)
	require.NoError(h, err)
	found := regexp.MustCompile(`id="` + id + `" href="([^"]*)"`).FindStringSubmatch(page.String())
	require.NotNil(h, found, page.String())
	return html.UnescapeString(found[1])
}

// installing is a house whose Slack is a stand-in, with an app of the other workspace's, and a log to look through.
type installing struct {
	*house
	slack *standin.Slack
	app   string
	log   *bytes.Buffer
}

func eachInstalling(t *testing.T, test func(h *installing)) {
	sqltest.Each(t, migrations, func(t *testing.T, db *sqldb.DB) { test(newInstalling(t, db)) })
}

func newInstalling(t *testing.T, db *sqldb.DB) *installing {
	t.Helper()
	h := &installing{house: newHouse(t, db, bustest.Embedded(t)), log: &bytes.Buffer{}}
	var err error
	h.slack, err = standin.NewSlack("127.0.0.1:0", nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.slack.Close()) })
	h.cfg.Providers.SlackURL, h.cfg.Providers.SlackAuthoriseURL = h.slack.APIURL(), h.slack.URL+"/oauth/v2/authorize"
	h.cfg.ReturnOrigins = []string{"https://app.example"}
	h.deps.Common.PublicURL = publicURL
	tel, err := telemetry.New(telemetry.Config{Service: "connect", LogLevel: "debug", LogOutput: h.log})
	require.NoError(t, err)
	h.deps.Telemetry = tel
	h.rebuild(db, h.s.keepers)
	h.app = h.as(h.other).post("/v1/apps", slackApp("main")).is(http.StatusCreated).id()
	t.Cleanup(func() { require.NotContains(t, h.log.String(), "canary", "no log has a secret") })
	return h
}

// link makes one for the other workspace.
func (h *installing) link(more ...string) (id, link string) {
	h.Helper()
	body := map[string]any{"channel": "slack", "app_id": h.app}
	for i := 0; i < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	made := h.as(h.other).post("/v1/connections/authorisations", body).is(http.StatusCreated).object()
	return made["id"].(string), made["url"].(string)
}

func (h *installing) authorisation(id string) map[string]any {
	h.Helper()
	return h.as(h.other).get("/v1/connections/authorisations/" + id).is(http.StatusOK).object()
}

// connections of the other workspace.
func (h *installing) connections() []string {
	h.Helper()
	return h.as(h.other).ids("/v1/connections", nil)
}

func (h *installing) connection(id string) map[string]any {
	h.Helper()
	return h.as(h.other).get("/v1/connections/" + id).is(http.StatusOK).object()
}

// installed goes all the way, and gives the connection.
func (h *installing) installed() (connection string) {
	h.Helper()
	id, link := h.link()
	o := h.browser()
	o.open(h.answer(o.leave(link), "allow")).shows(http.StatusOK, "Slack is connected to “Other”")
	return h.authorisation(id)["connection_id"].(string)
}

// pass lets time go by.
func (h *house) pass(d time.Duration) { h.skew.Add(d.Microseconds()) }
